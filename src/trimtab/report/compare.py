"""Several run folders side by side: a page with a table of figures, plots of quality against cost, and differences of
accuracy by pairs of answers; the table also for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from trimtab.core.errors import BadInput
from trimtab.core.files import write_atomic
from trimtab.report import plain
from trimtab.report.chart import Plot
from trimtab.report.differences import differences
from trimtab.report.figures import kind, label
from trimtab.report.folder import Run
from trimtab.report.markdown import twin
from trimtab.report.page import page
from trimtab.report.plots.several import several
from trimtab.report.say import times
from trimtab.report.several import cautions, one_machine, runs
from trimtab.report.table import Cell, Column, Table, markdown
from trimtab.report.tables import quality_names, reading
from trimtab.report.terminal import rich_table
from trimtab.report.verdict import TONES
from trimtab.report.words import machine, model

WANTED = ("bytes.weights", "flops.prefill", "latency.prefill.", "latency.decode.b1", "memory.peak",
          "energy.answer.b1")  # fmt: skip
ELSEWHERE = ("latency", "memory", "seconds", "energy", "power", "throughput")
"""Figures that are of a machine: no ratio is made of them across two."""


@dataclass(frozen=True)
class Comparison:
    """All that the page of several runs shows; ``cautions``: what to know before its figures are put side by side."""

    runs: Table
    cautions: tuple[str, ...]
    table: Table
    cost: Plot
    paired: Table
    paired_words: str


def build(folders: Sequence[Path]) -> Comparison:
    """Raises BadInput without two folders, Refused where readings do not compare (``several``)."""
    found = runs(folders)
    paired, words = differences(found, folders)
    return Comparison(_who(found), tuple(cautions(found)), _table(found), several(found), paired, words)


def write(folders: Sequence[Path], out: Path) -> Comparison:
    """Write the page ``out``, which ends in .html, with its twins .md and .json beside it. Raises as ``build`` does."""
    if out.suffix != ".html":
        raise BadInput(f"--out: got {str(out)!r}; accepted: a name that ends in .html (.md and .json go beside)")
    found = build(folders)
    texts = {".html": page("compare.html.j2", [found.cost], view=found), ".md": twin("compare.md.j2", view=found),
             ".json": plain.document("compare", **plain.plain(found))}  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        write_atomic(out.with_suffix(suffix), text)
    return found


def compare(run_folders: Sequence[Path]) -> Table:
    """Figures after trimming, with their intervals. Raises as ``build`` does."""
    return _table(runs(run_folders))


def to_markdown(table: Table) -> str:
    """The table for a README or a pull request, with its caption above."""
    return f"{table.caption}\n\n{markdown(table)}\n"


def show(*tables: Table, console: Console | None = None) -> None:
    """Print tables to a terminal, the caption under each."""
    console = console or Console()
    for table in tables:
        console.print(rich_table(table, console.width))
        console.print(table.caption, markup=False, highlight=False)


def _who(found: Sequence[Run]) -> Table:
    rows = tuple(
        (Cell(run.folder), Cell(model(run.result.get("model") or {})), Cell(_steps(run)),
         Cell(word := str(run.result.get("verdict") or "UNFINISHED"), TONES.get(word, "warn")),
         Cell(machine(run.result.get("machine") or {})))
        for run in found
    )  # fmt: skip
    return Table("Runs", tuple(Column(title) for title in ("Run", "Model", "Steps", "Verdict", "Machine")), rows)


def _table(found: Sequence[Run]) -> Table:
    words = [str(run.result.get("verdict") or "UNFINISHED") for run in found]
    rows = [
        (Cell("Verdict"), *(Cell(word, TONES.get(word, "warn")) for word in words)),
        (Cell("Steps"), *(Cell(_steps(run)) for run in found)),
        *((Cell(label(name)), *(_cell(found[0], run, name) for run in found)) for name in _figures(found)),
    ]
    caption = " ".join(("Figures after trimming; ratios are to the first run.", *cautions(found)))
    return Table(caption, (Column(""), *(Column(run.folder, numeric=True) for run in found)), tuple(rows))


def _cell(first: Run, run: Run, name: str) -> Cell:
    """The figure of a run with its ratio to the first run's, where that says something."""
    cell, base, one = reading(run, "after", name), first.get("after", name), run.get("after", name)
    elsewhere = name.startswith(ELSEWHERE) and not one_machine(first, run)
    if run is first or kind(name).better != "lower" or elsewhere or not (base and one) or not 0 < base.value < 1e300:
        return cell
    parts = (cell.note, times(one.value / base.value))
    return replace(cell, note=" · ".join(part for part in parts if part)) if one.value == one.value else cell


def _figures(found: Sequence[Run]) -> list[str]:
    """Qualities first, then for each wanted cost the figure that most runs have, the largest batch of a time."""
    names = [name for name in dict.fromkeys(name for run in found for name in run.names())
             if name != "bytes.weights16" and not name.endswith(".p95")]  # fmt: skip
    chosen = list(dict.fromkeys(name for run in found for name in quality_names(run)))
    for prefix in WANTED:
        fit = [name for name in names if name.startswith(prefix)]
        chosen += sorted(fit, key=lambda n: (sum(bool(run.get("after", n)) for run in found), len(n), n))[-1:]
    return chosen


def _steps(run: Run) -> str:
    return ", ".join(str(step.get("method", "")) for step in run.result.get("steps") or ())
