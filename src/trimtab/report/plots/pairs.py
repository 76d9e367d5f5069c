"""A search as drawings, one for each two objectives: every trial, the fixed recipes, and the front of the two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.say import interval, say
from trimtab.report.search import Objective, Search, Trial, front
from trimtab.report.table import Cell, Column, Table

FRONT, EDGE = "on the front", "front of the two"
KINDS = (("other", "other trials"), ("stopped", "stopped early"), ("front", FRONT), ("fixed", "fixed recipes"))


def pairs(search: Search) -> Plot:
    """Where there is one, the objective to be made large stands upright."""
    found = [(a, b) if b.goal == "max" or a.goal == "min" else (b, a) for a, b in combinations(search.objectives, 2)]
    charts = tuple(chart for at, (x, y) in enumerate(found) if (chart := _chart(at, search, x, y)))
    about = (
        "A mark is a trial. The steps lead along those that no other beats in these two objectives; filled marks are "
    )
    about += (
        "on the front of all of them, fixed recipes bear their names. These and what was measured on the test split "
    )
    about += "have their 95 % intervals as bars; those of the others are in the table."
    return Plot("pairs", about, charts, trials("Trials", search.points, search))


def _chart(at: int, search: Search, x: Objective, y: Objective) -> Chart | None:
    known = [one for one in search.points if _has(one, x, y)]
    series = [Series(words, look, tuple(_point(one, x, y, search) for one in found))
              for look, words in KINDS if (found := [one for one in known if _kind(one) == look])]  # fmt: skip
    tested = tuple(_point(one, x, y, search, "on the test split") for one in search.test if _has(one, x, y))
    series += [Series("on the test split", "test", tested)] if tested else []
    if not series:
        return None
    edge = Series(EDGE, "edge", _steps(front(search.points, x, y), x, y), "line")
    arrows = {"min": "less is better", "max": "more is better"}
    across, up = (Axis(f"{one.label}, {arrows[one.goal]}", one.unit) for one in (x, y))
    every = (*([edge] if edge.points else []), *series)
    return Chart(f"pairs-{at}", f"{y.label} against {x.label.lower()}", across, up, every, wide=True, height=230)


def _kind(one: Trial) -> str:
    if one.reference:
        return "fixed"
    if one.state != "complete":
        return "stopped"
    return "front" if one.pareto else "other"


def _has(one: Trial, x: Objective, y: Objective) -> bool:
    return x.name in one.values and y.name in one.values


def _steps(found: Sequence[Trial], x: Objective, y: Objective) -> tuple[Point, ...]:
    """Along the front; corners stand on the side that is beaten."""
    places = [(one.values[x.name].value, one.values[y.name].value) for one in found]
    corners = [((b[0], a[1]), b) for a, b in pairwise(places)]
    return tuple(Point(*place, "") for place in [*places[:1], *(p for corner in corners for p in corner)])


def _point(one: Trial, x: Objective, y: Objective, search: Search, where: str = "") -> Point:
    a, b = one.values[x.name], one.values[y.name]
    head = ", ".join(part for part in (f"trial {one.number}", one.reference, where or _state(one)) if part)
    said = [f"{o.label}: {value(one, o)}" for o in search.objectives if o.name in one.values]
    tip = "\n".join((head, *said, *([one.steps] if one.steps else [])))
    if not (where or one.reference or one.pareto):
        return Point(a.value, b.value, tip)
    return Point(a.value, b.value, tip, a.spread, b.spread, note=one.reference)


def _state(one: Trial) -> str:
    return FRONT if one.pareto else one.state


def value(one: Trial, of: Objective) -> str:
    """``97.0 % (96.2 to 97.7 %)``."""
    found = one.values[of.name]
    ends = interval(found.spread, of.unit)
    return say(found.value, of.unit) + (f" ({ends})" if ends else "")


def trials(caption: str, found: Sequence[Trial], search: Search) -> Table:
    """A row for each trial, those on the front first."""
    measured = (Column(one.label, True) for one in search.objectives)
    titles = (Column("Trial"), Column("State"), *measured, Column("Steps", long=True), Column("Time", True),
              Column("Why", long=True))  # fmt: skip
    order = sorted(found, key=lambda one: (not one.pareto, not one.reference, one.number))
    return Table(caption, titles, tuple(_row(one, search) for one in order))


def _row(one: Trial, search: Search) -> tuple[Cell, ...]:
    cells = [_cell(one, of) for of in search.objectives]
    state = Cell(FRONT, "good") if one.pareto else Cell(one.state, "bad" if one.state == "failed" else "")
    return (Cell(str(one.number), note=one.reference), state, *cells, Cell(one.steps, note=one.recipe),
            Cell(say(one.seconds, "s"), value=one.seconds, unit="s"), Cell(one.why))  # fmt: skip


def _cell(one: Trial, of: Objective) -> Cell:
    found = one.values.get(of.name)
    if found is None:
        return Cell("not measured", "quiet")
    note = interval(found.spread, of.unit)
    return Cell(say(found.value, of.unit), note=note, value=found.value, spread=found.spread, unit=of.unit)
