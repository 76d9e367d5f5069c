"""Where the predicted seconds of a phase go: by part of the model before and after, and by layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.folder import Run
from trimtab.report.plots.roofline import choice, said, sides
from trimtab.report.say import say
from trimtab.report.table import Cell, Table, columns

BOUNDS = {"memory": "bound by memory", "compute": "bound by arithmetic", "start": "bound by starting"}
LAYER = re.compile(r"\.(\d+)\.")
Rows = Sequence[dict[str, Any]]


def spent(run: Run) -> Plot:
    """For each phase one drawing of its parts, and one a side of its layers."""
    every = sides(run)
    charts: list[Chart] = []
    for at, name in enumerate(dict.fromkeys(choice(side) for side in every)):
        found = [side for side in every if choice(side) == name and _total(side.get("rows") or [])]
        charts += [_parts(at, name, found)] if found else []
        charts += [_layers(f"{at}-{place}", name, side) for place, side in enumerate(found)]
    about = "Predicted seconds, added up. By part: before and after; by layer: what bounds each layer's operators."
    return Plot("spent", about, tuple(charts), _table(every))


def _total(rows: Rows) -> float:
    return sum(float(row.get("seconds") or 0) for row in rows)


def by(rows: Rows, key: str) -> dict[str, float]:
    """Seconds added up by a key of the rows, in the order of first sight."""
    found: dict[str, float] = {}
    for row in rows:
        name = str(row.get(key) or "other")
        found[name] = found.get(name, 0.0) + float(row.get("seconds") or 0)
    return found


def layer(row: dict[str, Any]) -> str:
    """``vision 3``: a part and the number of its layer, or the part alone."""
    part, number = str(row.get("part") or "other"), LAYER.search(str(row.get("name", "")))
    return f"{part} {number[1]}" if number else part


def _parts(at: int, name: str, found: list[dict[str, Any]]) -> Chart:
    parts = list(dict.fromkeys(part for side in found for part in by(side["rows"], "part")))
    series = tuple(
        Series(part, f"#{index}", tuple(
            Point(seconds, row, f"{part}, {side.get('when', '')}\n{say(seconds, 's')}")
            for row, side in enumerate(found) if (seconds := by(side["rows"], "part").get(part, 0.0))
        ), "bars")
        for index, part in enumerate(parts)
    )  # fmt: skip
    rows = tuple(str(side.get("when", "")) for side in found)
    across = Axis("Predicted time", "s", zero=True)
    return Chart(f"spent-{at}", f"{name}: by part", across, Axis("", names=rows), series, name, stacked=True)


def _layers(key: str, name: str, side: dict[str, Any]) -> Chart:
    columns_of = list(dict.fromkeys(layer(row) for row in side["rows"]))
    series = []
    for bound, words in BOUNDS.items():
        points = []
        for column, one in enumerate(columns_of):
            rows = [row for row in side["rows"] if layer(row) == one and row.get("bound") == bound]
            if seconds := _total(rows):
                points.append(Point(column, seconds, f"{one}, {words}\n{say(seconds, 's')}, {len(rows)} operators"))
        series += [Series(words, bound, tuple(points), "bars")] if points else []
    across = Axis(f"{len(columns_of)} layers in running order", names=tuple(columns_of))
    return Chart(f"spent-{key}", f"{name}: by layer, {side.get('when', '')}", across,
                 Axis("Predicted time", "s", zero=True), tuple(series), name, stacked=True, height=160)  # fmt: skip


def _table(every: list[dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for side in every:
        found = side.get("rows") or []
        total = _total(found) or 1.0
        rows.append((Cell(f"{choice(side)}, {said(side)}"),))
        for part, seconds in by(found, "part").items():
            share = Cell(say(seconds / total, "share"), value=seconds / total, unit="share")
            rows.append((Cell(part), Cell(say(seconds, "s"), value=seconds, unit="s"), share))
    return Table("Predicted seconds by part", columns("Part", "#Predicted", "#Share"), tuple(rows))
