"""Accuracy on worse pictures, before and after: the same questions with pictures missing or corrupted, a row each."""

from __future__ import annotations

from typing import Any

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.figures import kind, shown_as, view
from trimtab.report.folder import Run
from trimtab.report.plots.cost import spread
from trimtab.report.say import points
from trimtab.report.table import Cell, Table, columns
from trimtab.report.tables import changed, reading

FIRST = ("clean", "missing")
SIDES = {"before": -0.17, "after": 0.17}


def robust(run: Run) -> Plot:
    """One row for each way of showing the pictures; the table has the paired change and the flips."""
    found = [name for name in run.names() if shown_as(name) and shown_as(name) != "blind_table"]
    names = sorted(found, key=lambda name: (*FIRST, shown_as(name)).index(shown_as(name)))
    about = "Accuracy on the same questions (right is better). Bars are 95 % intervals of each side alone; the change "
    about += "is taken answer by answer, with the interval under it, so sides may differ though their bars overlap."
    return Plot("robust", about, (_chart(run, names),) if names else (), _table(run, names))


def _table(run: Run, names: list[str]) -> Table:
    rows = {str(row.get("figure")): row for row in run.result.get("robust") or []}
    cells = tuple(_row(run, name, rows.get(name) or {}) for name in names)
    return Table("Robustness", columns("Picture", "#Before", "#After", "#Change", "#Flips", "#n"), cells)


def _row(run: Run, name: str, row: dict[str, Any]) -> tuple[Cell, ...]:
    flips = row.get("flips") or {}
    said = f"{flips['lost']:,} lost, {flips['gained']:,} gained" if flips else ""
    counts = " / ".join(dict.fromkeys(f"{one.n:,}" for when in SIDES if (one := run.get(when, name))))
    ends = reading(run, "before", name), reading(run, "after", name)
    change = paired(name, row) if row else changed(run, name)
    return (Cell(view(shown_as(name))), *ends, change, Cell(said, "quiet"), Cell(counts, "quiet"))


def paired(name: str, row: dict[str, Any]) -> Cell:
    """The change of a row of ``result.json`` with its paired interval; it claims a side where that leaves out 0."""
    change, low, high = float(row["change"]), float(row["low"]), float(row["high"])
    note = f"{points(low)} to {points(high)}"
    if kind(name).better == "neither" or low <= 0 <= high:
        return Cell(points(change), "quiet", note, value=change, spread=(low, high))
    if low > 0:
        return Cell(points(change), "good", note, value=change, spread=(low, high))
    return Cell(f"{points(change)} LOWER", "bad", note, value=change, spread=(low, high))


def _chart(run: Run, names: list[str]) -> Chart:
    rows = tuple(view(shown_as(name)).partition(", the same")[0].replace(", severity", "") for name in names)
    series = tuple(
        Series(words, when, tuple(
            Point(one.value, row + SIDES[when], f"{rows[row]}, {when}\n{spread(one)}", one.spread)
            for row, name in enumerate(names) if (one := run.get(when, name)) and one.value == one.value
        ))
        for when, words in (("before", "before"), ("after", "after, reloaded"))
    )  # fmt: skip
    return Chart("robust", "Accuracy by picture", Axis("Accuracy", "share"), Axis("", names=rows), series)
