"""Several run folders as one table: a column for each run, a row for its verdict, its steps and each figure after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from trimtab.core.errors import BadInput
from trimtab.report.figures import label
from trimtab.report.folder import Run, read
from trimtab.report.privacy import public
from trimtab.report.table import Cell, Column, Table, markdown
from trimtab.report.tables import quality_names, reading
from trimtab.report.terminal import rich_table
from trimtab.report.verdict import TONES

WANTED = ("bytes.weights", "flops.prefill", "latency.prefill.", "latency.decode.b1", "memory.peak")


def compare(run_folders: Sequence[Path]) -> Table:
    """Figures after trimming, with their intervals. Raises BadInput without two folders.

    Runs are put side by side as they were measured: the table says so where machines or models differ, and does not
    correct for it.
    """
    if len(run_folders) < 2:
        raise BadInput(f"compare: got {len(run_folders)} run folder; it takes two or more, as in runs/a runs/b")
    runs = [public(read(Path(folder))) for folder in run_folders]
    words = [str(run.result.get("verdict") or "UNFINISHED") for run in runs]
    rows = [
        (Cell("Verdict"), *(Cell(word, TONES.get(word, "warn")) for word in words)),
        (Cell("Steps"), *(Cell(_steps(run)) for run in runs)),
        *((Cell(label(name)), *(reading(run, "after", name) for run in runs)) for name in _figures(runs)),
    ]
    return Table(_caption(runs), (Column(""), *(Column(run.folder, numeric=True) for run in runs)), tuple(rows))


def to_markdown(table: Table) -> str:
    """The table for a README or a pull request, with its caption above."""
    return f"{table.caption}\n\n{markdown(table)}\n"


def show(table: Table, console: Console | None = None) -> None:
    """Print the table to a terminal, the caption under it."""
    console = console or Console()
    console.print(rich_table(table, console.width))
    console.print(table.caption, markup=False, highlight=False)


def _figures(runs: Sequence[Run]) -> list[str]:
    """Qualities first, then for each wanted cost the figure that most runs have, the largest batch of a time."""
    found = list(dict.fromkeys(name for run in runs for name in quality_names(run)))
    names = list(dict.fromkeys(name for run in runs for name in run.names()))
    for prefix in WANTED:
        fit = [name for name in names if name.startswith(prefix) and name != "bytes.weights16"]
        found += sorted(fit, key=lambda name: (sum(bool(run.get("after", name)) for run in runs), len(name), name))[-1:]
    return found


def _steps(run: Run) -> str:
    return ", ".join(str(step.get("method", "")) for step in run.result.get("steps") or ())


def _caption(runs: Sequence[Run]) -> str:
    machines = {str(sorted((run.result.get("machine") or {}).items())) for run in runs}
    models = {str((run.result.get("model") or {}).get("id")) for run in runs}
    words = ["Figures after trimming."]
    words += ["Machines or versions differ: times do not compare."] if len(machines) > 1 else []
    words += ["Models differ."] if len(models) > 1 else []
    return " ".join(words)
