"""Where the predicted seconds of a phase go: by part of the model, and by layer and what bounds it."""

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
    """By part of the model, a drawing for each phase."""
    parts = list(dict.fromkeys(part for side in sides(run) for part in by(side.get("rows") or [], "part")))
    charts = [_parts(at, name, found, parts) for at, (name, found) in enumerate(_phases(run).items())]
    return Plot("spent", "Predicted seconds by part of the model, before and after.", tuple(charts), _table(sides(run)))


def bounds(run: Run) -> Plot:
    """By layer and by what bounds its operators, a drawing for each phase and side."""
    charts = [_layers(f"{at}-{place}", name, side) for at, (name, found) in enumerate(_phases(run).items())
              for place, side in enumerate(found)]  # fmt: skip
    about = "Predicted seconds by layer, in running order, and by what bounds each layer's operators: bytes to move, "
    about += "operations to do, or the time that it takes to start one."
    return Plot("bounds", about, tuple(charts), _bounded(sides(run)))


def _phases(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The sides of each phase for which anything was predicted."""
    found: dict[str, list[dict[str, Any]]] = {}
    for side in sides(run):
        if _total(side.get("rows") or []) > 0:
            found.setdefault(choice(side), []).append(side)
    return found


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


def _parts(at: int, name: str, found: list[dict[str, Any]], parts: list[str]) -> Chart:
    """A part looks the same in every drawing: its look is by its place among all ``parts``."""
    series = []
    for index, part in enumerate(parts):
        points = tuple(
            Point(seconds, row, f"{part}, {side.get('when', '')}\n{say(seconds, 's')}")
            for row, side in enumerate(found) if (seconds := by(side["rows"], "part").get(part, 0.0))
        )  # fmt: skip
        series += [Series(part, f"#{index}", points, "bars")] if points else []
    rows = tuple(str(side.get("when", "")) for side in found)
    across = Axis("Predicted time", "s", zero=True)
    return Chart(f"spent-{at}", name, across, Axis("", names=rows), tuple(series), name, stacked=True)


def _layers(key: str, name: str, side: dict[str, Any]) -> Chart:
    columns_of = list(dict.fromkeys(layer(row) for row in side["rows"]))
    series = []
    for bound, words in BOUNDS.items():
        found = [(column, one, _of(side["rows"], one, bound)) for column, one in enumerate(columns_of)]
        points = tuple(
            Point(column, seconds, f"{one}, {words}\n{say(seconds, 's')}, {len(rows)} operators")
            for column, one, rows in found if (seconds := _total(rows))
        )  # fmt: skip
        series += [Series(words, bound, points, "bars")] if points else []
    across = Axis(f"{len(columns_of)} layers in running order", names=tuple(columns_of))
    return Chart(f"bounds-{key}", f"{name}: {side.get('when', '')}", across,
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


def _of(rows: Rows, name: str, bound: str) -> list[dict[str, Any]]:
    return [row for row in rows if layer(row) == name and row.get("bound") == bound]


def _bounded(every: list[dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for side in every:
        found = side.get("rows") or []
        rows.append((Cell(f"{choice(side)}, {said(side)}"),))
        for name in dict.fromkeys(layer(row) for row in found):
            spent = [_total(_of(found, name, bound)) for bound in BOUNDS]
            rows.append((Cell(name), *(Cell(say(one, "s"), value=one, unit="s") for one in (*spent, sum(spent)))))
    titles = columns("Layer", *(f"#{words.capitalize()}" for words in BOUNDS.values()), "#In all")
    return Table("Predicted seconds by layer", titles, tuple(rows))
