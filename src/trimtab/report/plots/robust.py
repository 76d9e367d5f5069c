"""Accuracy on worse pictures, before and after: the same questions with pictures missing or corrupted, a row each."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from trimtab.report import svg
from trimtab.report.figures import kind, shown_as, view
from trimtab.report.folder import Run
from trimtab.report.say import points, say, tick
from trimtab.report.svg import Panel, Plot
from trimtab.report.table import Cell, Table, columns
from trimtab.report.tables import changed, reading

LEFT, RIGHT, TOP, PITCH = 100.0, 340.0, 4.0, 28.0
FIRST = ("clean", "missing")
SHAPES = {"before": 0, "after": 1}


def robust(run: Run) -> Plot:
    """One row for each way of showing the pictures; the table has the paired change and the flips."""
    found = [name for name in run.names() if shown_as(name) and shown_as(name) != "blind_table"]
    names = sorted(found, key=lambda name: (*FIRST, shown_as(name)).index(shown_as(name)))
    about = "Accuracy on the same questions (right is better). Bars are 95 % intervals of each side alone; the change "
    about += "is taken answer by answer, with the interval under it, so sides may differ though their bars overlap."
    words = {"before": "before", "after": "after, reloaded"}
    legend = tuple((svg.key(SHAPES[when], f"m-{when}"), text) for when, text in words.items())
    panels = (_panel(run, names),) if names else ()
    return Plot("robust", about, panels, legend, _table(run, names))


def _table(run: Run, names: list[str]) -> Table:
    rows = {str(row.get("figure")): row for row in run.result.get("robust") or []}
    cells = tuple(_row(run, name, rows.get(name) or {}) for name in names)
    return Table("Robustness", columns("Picture", "#Before", "#After", "#Change", "#Flips", "#n"), cells)


def _row(run: Run, name: str, row: dict[str, Any]) -> tuple[Cell, ...]:
    flips = row.get("flips") or {}
    said = f"{flips['lost']:,} lost, {flips['gained']:,} gained" if flips else ""
    counts = " / ".join(dict.fromkeys(f"{one.n:,}" for when in SHAPES if (one := run.get(when, name))))
    ends = reading(run, "before", name), reading(run, "after", name)
    change = paired(name, row) if row else changed(run, name)
    return (Cell(view(shown_as(name))), *ends, change, Cell(said, "quiet"), Cell(counts, "quiet"))


def paired(name: str, row: dict[str, Any]) -> Cell:
    """The change of a row of ``result.json`` with its paired interval; it claims a side where that leaves out 0."""
    change, low, high = float(row["change"]), float(row["low"]), float(row["high"])
    note = f"{points(low)} to {points(high)}"
    if kind(name).better == "neither" or low <= 0 <= high:
        return Cell(points(change), "quiet", note)
    return Cell(points(change), "good", note) if low > 0 else Cell(f"{points(change)} LOWER", "bad", note)


def _panel(run: Run, names: list[str]) -> Panel:
    sides = [one for name in names for when in SHAPES if (one := run.get(when, name)) and one.value == one.value]
    ends = [end for one in sides for end in (one.spread or (one.value, one.value)) if end == end] or [0.0, 1.0]
    low, high = max(0.0, min(ends) - 0.02), min(1.0, max(ends) + 0.02)
    scale = (RIGHT - LEFT) / (high - low)
    bottom = TOP + PITCH * len(names)
    body: list[Markup] = []
    for value in svg.ticks(low, high, 4):
        x = LEFT + scale * (value - low)
        body += [svg.line(x, TOP, x, bottom, "grid"), svg.text(x, bottom + 16, tick(value, "share"), "tick", "middle")]
    said = []
    for place, name in enumerate(names):
        y = TOP + PITCH * (place + 0.5)
        words = view(shown_as(name)).partition(", the same")[0].replace(", severity", "")
        body.append(svg.text(0, y + 4, svg.short(words, 15), "name"))
        for when, offset in (("before", -5.0), ("after", 5.0)):
            one = run.get(when, name)
            if one is None or one.value != one.value:
                continue
            if one.spread:
                left, right = (LEFT + scale * (end - low) for end in one.spread)
                body.append(svg.line(left, y + offset, right, y + offset, "whisker"))
            tip = f"{words}, {when}: {say(one.value, one.unit)}"
            body.append(svg.mark(SHAPES[when], LEFT + scale * (one.value - low), y + offset, f"m-{when}", tip, 4.0))
            said.append(f"{words}, {when} {say(one.value, one.unit)}")
    body.append(svg.line(LEFT, bottom, RIGHT, bottom, "axis"))
    return svg.panel("robust", "Accuracy by picture", "; ".join(said), bottom + 22, body)
