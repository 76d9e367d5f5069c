"""Quality against cost: before, after each step, after; one panel for each cost measured more than once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from trimtab.report import svg
from trimtab.report.figures import kind, label
from trimtab.report.folder import Figure, Run
from trimtab.report.say import say, tick
from trimtab.report.svg import Panel, Plot
from trimtab.report.table import Cell, Column, Table
from trimtab.report.tables import quality_names, reading

LEFT, RIGHT, TOP, BOTTOM = 50.0, 348.0, 16.0, 196.0
COSTS = ("bytes.weights", "flops.prefill", "latency.prefill.", "latency.decode.b1")
SHAPES = {"before": 0, "after": 1}  # steps: 2


def cost(run: Run) -> Plot:
    """The plot, with a panel for each cost, and every moment of the run in its table."""
    names = quality_names(run)
    what = label(names[0]) if names else ""
    better = "higher" if names and kind(names[0]).better == "higher" else "lower"
    about = f"{what} ({better} is better) against cost (left is cheaper). Bars are 95 % intervals. "
    about += "Marks of one cost stand a little apart."
    table = _table(run, names[:1], _costs(run)) if names else Table("", (), ())
    panels = tuple(_panel(run, index, names[0], one) for index, one in enumerate(_costs(run))) if names else ()
    words = {"before": "before", "step": "after a step", "after": "after, reloaded"}
    legend = tuple((svg.key(SHAPES.get(when, 2), f"m-{when}"), text) for when, text in words.items())
    return Plot("cost", about, panels, legend, table)


def _costs(run: Run) -> list[str]:
    """Costs measured at two moments or more, of a batched time the largest batch."""
    found = []
    for prefix in COSTS:
        names = [name for name in run.names() if name == prefix or (prefix[-1] == "." and name.startswith(prefix))]
        names = [name for name in names if sum(bool(run.get(when, name)) for when in run.moments()) > 1]
        found += sorted(names, key=lambda name: (len(name), name))[-1:]
    return found


def _table(run: Run, names: Sequence[str], costs: Sequence[str]) -> Table:
    shown = [*names, *costs]
    columns = (Column("Moment"), *(Column(label(name), numeric=True) for name in shown))
    rows = tuple((Cell(when), *(reading(run, when, name) for name in shown)) for when in run.moments())
    return Table("Quality and cost at each moment", columns, rows)


def _panel(run: Run, index: int, quality: str, price: str) -> Panel:
    found = [(when, run.get(when, quality), run.get(when, price)) for when in run.moments()]
    points = [(when, q, c) for when, q, c in found if q and c and q.value == q.value and c.value == c.value]
    top = max((c.value for _, _, c in points), default=1.0) * 1.12 or 1.0
    low, high = _range([q for _, q, _ in points])
    unit = points[0][1].unit if points else ""

    def at(q: float, c: float) -> tuple[float, float]:
        x = LEFT + (RIGHT - LEFT) * c / top
        return x, BOTTOM - (BOTTOM - TOP) * (min(max(q, low), high) - low) / (high - low)

    body = [*_axes(at, low, high, top, unit, points[0][2].unit if points else "")]
    places = _apart([at(q.value, c.value) for _, q, c in points])
    body.append(svg.path(places, "trail"))
    bars = []
    for (x, _), (_, q, _) in zip(places, points, strict=True):
        if q.spread:
            bars.append((x, at(q.spread[1], 0)[1], at(q.spread[0], 0)[1]))
            body.append(svg.line(x, bars[-1][1], x, bars[-1][2], "whisker"))
    for (x, y), (when, q, c) in zip(places, points, strict=True):
        tip = f"{when}: {say(q.value, q.unit)}, {say(c.value, c.unit)}"
        body.append(svg.mark(SHAPES.get(when, 2), x, y, _style(when), tip))
    body += _names([(when, x, y) for (x, y), (when, _, _) in zip(places, points, strict=True)], bars)
    said = "; ".join(f"{when}: {say(q.value, q.unit)} at {say(c.value, c.unit)}" for when, q, c in points)
    return svg.panel(f"cost-{index}", label(price), said, BOTTOM + 26, body)


def _style(when: str) -> str:
    return f"m-{when}" if when in ("before", "after") else "m-step"


def _range(figures: Sequence[Figure]) -> tuple[float, float]:
    """The quality axis: every interval in view, at least four points of a share wide, cut at 0 and 1."""
    ends = [end for one in figures for end in (one.spread or (one.value, one.value)) if end == end] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    share = bool(figures) and figures[0].unit == "share"
    pad = max(0.12 * (high - low), (0.04 - (high - low)) / 2 if share else 0.01 * abs(high) + 1e-9)
    return (max(0.0, low - pad), min(1.0, high + pad)) if share else (max(0.0, low - pad), high + pad)


def _axes(
    at: Callable[[float, float], tuple[float, float]], low: float, high: float, top: float, q_unit: str, c_unit: str
) -> list[Markup]:
    marks = []
    for value in svg.ticks(low, high, 4):
        y = at(value, 0)[1]
        marks += [svg.line(LEFT, y, RIGHT, y, "grid"), svg.text(LEFT - 6, y + 4, tick(value, q_unit), "tick", "end")]
    for value in svg.ticks(0, top, 4):
        x = at(low, value)[0]
        anchor = "middle" if x < RIGHT - 16 else "end"
        marks.append(svg.text(x, BOTTOM + 16, "0" if not value else tick(value, c_unit), "tick", anchor))
        marks.append(svg.line(x, BOTTOM, x, BOTTOM + 4, "axis"))
    return [*marks, svg.line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")]


def _apart(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Marks of nearly the same cost are moved a little sideways, so that their intervals do not hide one another."""
    found: list[tuple[float, float]] = []
    for x, y in places:
        while any(abs(x - other) < 12 for other, _ in found):
            x -= 12
        found.append((x, y))
    return found


def _names(points: Sequence[tuple[str, float, float]], bars: Sequence[tuple[float, float, float]]) -> list[Markup]:
    """A name beside each mark, at the first place that covers no name, mark or interval; the last one if none does."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for _, x, y in points]
    taken += [(x - 1, min(y1, y2), x + 1, max(y1, y2)) for x, y1, y2 in bars]
    found = []
    for when, x, y in points:
        words = svg.short(when, 18)
        wide = 6.4 * len(words)
        sides = [(x + 10, y + dy) for dy in (4, -10, 18)] + [(x - 10 - wide, y + dy) for dy in (4, -10, 18)]
        far = [
            (left + shift, base + dy) for dy in (0, -24, 24, -40, 40) for shift in (0, -22, 22) for left, base in sides
        ]
        for left, base in far:
            box = (left, base - 11, left + wide, base + 3)
            clear = all(box[2] < t[0] or t[2] < box[0] or box[3] < t[1] or t[3] < box[1] for t in taken)
            if clear and box[0] > LEFT and box[2] <= RIGHT + 8 and box[1] > TOP - 14 and box[3] < BOTTOM:
                break
        taken.append(box)
        found.append(svg.text(left, base, words, "name"))
    return found
