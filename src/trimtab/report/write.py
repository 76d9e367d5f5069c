"""Writes ``report.html``, ``.md`` and ``.json`` into a run folder, and the figures into its artifact's model card."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from trimtab.core.files import write_atomic
from trimtab.report import card, plain
from trimtab.report.chart import Plot
from trimtab.report.folder import Run, read
from trimtab.report.markdown import twin
from trimtab.report.page import page
from trimtab.report.privacy import public
from trimtab.report.view import View, build


def render(run_folder: Path, *, with_samples: bool = False) -> None:
    """Write the reports of ``run_folder``. Raises BadInput where its files cannot be read.

    Paths and names of the user's files, prompts and answers are withheld unless ``with_samples``, which stamps the
    report and adds the table of changed answers. The card leaves with the artifact: it never holds them.
    """
    folder = Path(run_folder)
    run = read(folder, with_samples)
    safe = public(run)
    shown = run if with_samples else safe
    view = build(shown)
    html = page("report.html.j2", plots(view), view=view)
    html = page("report.html.j2", plots(view), view=view)
    texts = {"report.html": html, "report.md": twin("report.md.j2", view=view), "report.json": document(shown, view)}
    for name, text in texts.items():
        write_atomic(folder / name, text)
    card.fill(folder, safe, build(safe) if with_samples else view)


def plots(view: View) -> list[Plot]:
    """Every plot of a view."""
    return [value for one in fields(view) if isinstance(value := getattr(view, one.name), Plot)]


def document(run: Run, view: View) -> str:
    """The JSON twin: every figure, and the view by the names of its parts."""
    return plain.document("report", figures=plain.readings(run), **plain.plain(view))
