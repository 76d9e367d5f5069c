"""Differences of accuracy between runs, by pairs of answers to the same questions (``trimtab.evaluate.paired``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from trimtab.report.figures import Tone
from trimtab.report.folder import Run, lines
from trimtab.report.say import points
from trimtab.report.several import data
from trimtab.report.table import Cell, Table, columns

FILE = "predictions.jsonl"


def differences(runs: Sequence[Run], folders: Sequence[Path]) -> tuple[Table, str]:
    """A row for each two runs that answered the same questions; and why others have none.

    The difference of later minus earlier, with its two-sided 95 % interval from the answers that changed.
    """
    asked = {run.folder: _asked(run, Path(folder)) for run, folder in zip(runs, folders, strict=True)}
    rows, silent = [], [f"{name}: {known}" for name, (known, _) in asked.items() if known]
    for one, other in combinations([run for run in runs if not asked[run.folder][0]], 2):
        if next(iter(data(one))) == next(iter(data(other))):
            rows.append(_row(one.folder, other.folder, asked[one.folder][1], asked[other.folder][1]))
    titles = columns("Accuracy, by pairs", "#Difference", "#Lost", "#Gained", "#n")
    words = f"Not compared by pairs: {'; '.join(silent)}." if silent else ""
    return Table("Differences by pairs", titles, tuple(row for row in rows if row)), words


def _asked(run: Run, folder: Path) -> tuple[str, dict[str, bool]]:
    """Why a run has no answers to compare, else whether each answer after trimming is right, by the question's id."""
    path, main = folder / FILE, next(iter(data(run)), "")
    if not main:
        return "no hash of its data was recorded", {}
    if not main.startswith("accuracy"):
        return "its task has no answers", {}
    if not path.is_file() or not os.access(path, os.R_OK):
        return f"no {FILE} that can be read", {}
    return "", {str(row["id"]): bool(row["correct"]) for row in lines(path)}


def _row(first: str, second: str, old: dict[str, bool], new: dict[str, bool]) -> tuple[Cell, ...]:
    from trimtab.evaluate.paired import ALPHA, drop
    from trimtab.evaluate.prediction import Prediction

    both = [name for name in old if name in new]
    if not both:
        return ()
    before, after = ([Prediction(name, "", side[name], float(side[name])) for name in both] for side in (old, new))
    lost = drop(before, after, ALPHA / 2)  # two bounds of 97.5 % are an interval of 95 %
    value, low, high = (-end + 0.0 for end in (lost.value, lost.high, lost.low))
    tone: Tone = "good" if low > 0 else "bad" if high < 0 else "quiet"
    text, note = points(value) + (" LOWER" if high < 0 else ""), f"{points(low)} to {points(high)}"
    cell = Cell(text, tone, note, value=value, spread=(low, high), unit="share")
    return (Cell(f"{second} since {first}"), cell, Cell(f"{lost.lost:,}", value=lost.lost),
            Cell(f"{lost.gained:,}", value=lost.gained), Cell(f"{lost.n:,}", "quiet", value=lost.n))  # fmt: skip
