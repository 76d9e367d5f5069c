"""Writes ``report.html`` and ``report.md`` into a run folder; ``result.json``, which the run wrote, is the JSON twin.

The page is one file that asks for nothing: styles, script and drawings are inline, and its content policy allows only
the script and style whose hashes it names, so that even text that escaped escaping could not run.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from trimtab.core.files import write_atomic
from trimtab.report.folder import Run, read
from trimtab.report.privacy import public
from trimtab.report.table import Table, escape, fence, markdown
from trimtab.report.view import build


class Ready(str):
    """Markdown that is escaped already."""


def render(run_folder: Path, *, with_samples: bool = False) -> None:
    """Write the reports of ``run_folder``. Raises BadInput where its files cannot be read.

    Paths and names of the user's files, prompts and answers are withheld unless ``with_samples``, which stamps the
    report and adds the table of changed answers.
    """
    run = read(Path(run_folder), with_samples)
    run = run if with_samples else public(run)
    write_atomic(Path(run_folder) / "report.html", page(run))
    write_atomic(Path(run_folder) / "report.md", twin(run))


def page(run: Run) -> str:
    """The HTML report. Every expression in its template is escaped unless it is Markup made by our own drawings."""
    env = Environment(
        loader=PackageLoader("trimtab.report"), autoescape=select_autoescape(["html", "html.j2"]),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style, script = _own("style.css"), _own("script.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    template = env.get_template("report.html.j2")
    return template.render(view=build(run), style=Markup(style), script=Markup(script), policy=policy)


def twin(run: Run) -> str:
    """The Markdown report: every expression is escaped unless it is ``Ready``."""
    env = Environment(
        loader=PackageLoader("trimtab.report"), autoescape=False, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: value if isinstance(value, Ready) else escape(value),
    )  # fmt: skip
    template = env.get_template("report.md.j2")
    text = template.render(view=build(run), table=_table, fence=lambda *given: Ready(fence(*given)))
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line, last in zip(lines, ["", *lines], strict=False) if line or last) + "\n"


def _table(one: Table) -> Ready:
    return Ready(markdown(one))


def _own(name: str) -> str:
    """A file of this package, safe to stand in the page as it is."""
    return resources.files("trimtab.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
