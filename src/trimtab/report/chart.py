"""What a picture shows, as data. It is drawn twice from here: by plotly where scripts run (``live``), and as plain SVG
(``still``) for print and for readers without scripts. Plotly gives what a drawing cannot: each mark says its figures to
pointer and keyboard, and the crowded ones can be zoomed into; it costs 4.8 MB a page. The SVG stays because a report is
also printed, mailed and kept for years. One source, so the two cannot disagree.

A meaning is never told by colour alone: every look has a colour, and a shape, a dash or a hatching of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from trimtab.report.say import STEPS, Spread, plain, rounded, unit_of
from trimtab.report.table import Table

Form = Literal["marks", "line", "bars"]
Dash = Literal["solid", "dot", "dash", "longdash", "dashdot"]


@dataclass(frozen=True)
class Look:
    """How a series is told from others. ``colour``: a name of the style sheet's. ``shape``: 0 circle, 1 diamond,
    2 square, 3 triangle, 4 triangle on its tip. ``hollow``: an outline, so that what lies under it is seen."""

    colour: str
    shape: int = 2
    dash: Dash = "solid"
    hatch: str = ""
    hollow: bool = False


LOOKS = {
    "before": Look("before", 0, "dot", "", True),
    "after": Look("after", 1, "solid", "/"),
    "step": Look("s1", 2),
    "trail": Look("soft", 0, "dot"),
    "one": Look("soft", 0, "dash"),
    "band": Look("before", 0, "solid", "", True),
    "image": Look("image"), "text": Look("text", hatch="/"), "video": Look("video", hatch="\\"),
    "audio": Look("audio", hatch="x"), "padding": Look("padding", hatch="."),
    "memory": Look("after"), "compute": Look("s1", hatch="/"), "start": Look("s5", hatch="."),
    "front": Look("after", 1), "edge": Look("after", 1, "dash"), "other": Look("before", 0, hollow=True),
    "fixed": Look("s1", 2), "test": Look("s2", 3), "stopped": Look("s5", 4, hollow=True),
}  # fmt: skip
COLOURS, SHAPES, HATCHES = 6, 5, ("", "/", "\\", "x", ".", "-")
DASHES: tuple[Dash, ...] = ("solid", "dash", "dot", "longdash", "dashdot")


def look(name: str) -> Look:
    """The look of a name in ``LOOKS``, or of ``#3``, the fourth of a row of series; thirty of these differ."""
    if not name.startswith("#"):
        return LOOKS[name]
    at = int(name[1:])
    return Look(f"s{at % COLOURS}", at % SHAPES, DASHES[at % len(DASHES)], HATCHES[at % len(HATCHES)])


@dataclass(frozen=True)
class Point:
    """A mark or the end of a bar. ``tip``: what is said of it, in lines. ``size``: its diameter over the usual one.
    ``note``: a word beside it."""

    x: float
    y: float
    tip: str
    x_ends: Spread | None = None
    y_ends: Spread | None = None
    size: float = 1.0
    note: str = ""

    @property
    def end(self) -> float:
        """How far a bar that lies reaches, with its interval."""
        return max((self.x, *(self.x_ends or ())))


@dataclass(frozen=True)
class Series:
    """Points of one meaning: ``name`` stands in the key, series of one name are shown and hidden together."""

    name: str
    look: str
    points: tuple[Point, ...]
    form: Form = "marks"


@dataclass(frozen=True)
class Axis:
    """``unit``: of the points' values; the axis is labelled in a multiple of it that suits. ``names``: a row or column
    for each, at 0, 1, 2 ... ``zero``: begins there."""

    label: str
    unit: str = ""
    log: bool = False
    names: tuple[str, ...] = ()
    zero: bool = False


@dataclass(frozen=True)
class Chart:
    """One drawing. ``choice``: drawings of a plot that have one are shown one choice at a time, where scripts run."""

    key: str
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    choice: str = ""
    wide: bool = False
    stacked: bool = False
    height: int = 200

    @property
    def said(self) -> str:
        """The first of what its marks say, for who cannot see it; the table beneath has everything."""
        tips = [point.tip for one in self.series if one.form != "line" for point in one.points]
        more = f"; and {len(tips) - 24} more, which the table has" if len(tips) > 24 else ""
        return "; ".join(tip.replace("\n", ", ") for tip in tips[:24]) + more

    def lane(self, at: Series) -> tuple[float, float]:
        """(middle, width) of a bar of ``at`` beside those of the other series, in rows or columns."""
        bars = [one for one in self.series if one.form == "bars"]
        whole = min(0.8, 0.2 + 0.15 * len(self.x.names)) if self.x.names else 0.8  # few columns are no blocks
        if self.stacked or len(bars) < 2:
            return 0.0, whole
        width = whole / len(bars)
        return (bars.index(at) - (len(bars) - 1) / 2) * width, width


@dataclass(frozen=True)
class Plot:
    """Drawings that belong together, what they show in a sentence, and their figures as a table."""

    key: str
    about: str
    charts: tuple[Chart, ...]
    table: Table

    def __bool__(self) -> bool:
        return bool(self.charts) or bool(self.table)

    @property
    def legend(self) -> tuple[Series, ...]:
        """The first series of each name, in order."""
        found: dict[str, Series] = {}
        for one in (one for chart in self.charts for one in chart.series):
            found.setdefault(one.name, one)
        return tuple(found.values())

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(chart.choice for chart in self.charts if chart.choice))


@dataclass(frozen=True)
class Scale:
    """An axis fitted to what it shows: a value v is labelled v / ``factor`` in ``unit``; ends and ticks are labels'."""

    low: float
    high: float
    factor: float
    unit: str
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """0 at the axis' low end, 1 at its high end, for a value in the points' unit."""
        low, high, shown = self.low, self.high, value / self.factor
        if self.log:
            low, high, shown = math.log10(low), math.log10(high), math.log10(max(shown, low * 1e-3))
        return (shown - low) / (high - low)


def scales(chart: Chart) -> tuple[Scale, Scale]:
    """Both axes, wide enough for every mark and interval."""
    points = [point for one in chart.series for point in one.points]
    x = [v for p in points for v in (p.x, *(p.x_ends or ()))]
    y = [v for p in points for v in (p.y, *(p.y_ends or ()))]
    if chart.stacked:
        upright = bool(chart.x.names)
        tops: dict[float, float] = {}
        for p in points:
            place, value = (p.x, p.y) if upright else (p.y, p.x)
            tops[place] = tops.get(place, 0.0) + value
        x, y = (x, [*tops.values()]) if upright else ([*tops.values()], y)
    return fit(chart.x, x), fit(chart.y, y)


def fit(axis: Axis, values: Iterable[float]) -> Scale:
    """The scale of an axis for these values; what is not finite, or not above 0 on a logarithmic axis, is left out."""
    if axis.names:
        count = len(axis.names)
        return Scale(-0.5, count - 0.5, 1.0, "", False, tuple(enumerate(axis.names)))
    found = [v for v in values if math.isfinite(v) and (v > 0 or not axis.log)] or [1.0]
    factor, unit = _multiple(axis.unit, max(abs(v) for v in found))
    low, high = min(found) / factor, max(found) / factor
    if axis.log:
        room = max((high / low) ** 0.06, 1.12)
        low, high = low / room, high * room
        if len(_fine(low, high)) < 2:  # a narrow range is widened to the round numbers around it
            low, high = max(_fine(low / 10, low)) / 1.02, min(_fine(high, high * 10)) * 1.02
        return Scale(low, high, factor, unit, True, _labelled(_powers(low, high)))
    low = min(low, 0.0) if axis.zero else low
    least = 4.0 if axis.unit == "share" else 0.02 * abs(high) + 1e-9
    room = max(0.08 * (high - low), (least - (high - low)) / 2)
    low, high = low if axis.zero and low == 0 else low - room, high + room
    if axis.unit == "share":  # 0 and 100 % are ends; a mark on one keeps its outline in view
        span = min(high, 100.0) - max(low, 0.0)
        low, high = max(low, 0.0 if axis.zero else -0.05 * span), min(high, 100.0 + 0.05 * span)
    marks = [t for t in ticks(low, high) if axis.unit != "share" or 0 <= t <= 100]
    return Scale(low, high, factor, unit, False, _labelled(marks))


def _multiple(unit: str, top: float) -> tuple[float, str]:
    """The multiple of a unit in which an axis up to ``top`` is labelled."""
    if unit == "share":
        return 0.01, "%"
    steps = STEPS.get(unit_of(unit))
    if steps is None:
        return 1.0, unit
    return next(((scale, name) for scale, name in steps if rounded(top) >= scale), steps[-1])


def _labelled(marks: list[float]) -> tuple[tuple[float, str], ...]:
    """Ticks with what stands at them, in as few digits as tell them apart."""
    for digits in range(3, 16):
        words = [plain(value, digits) for value in marks]
        if len(set(words)) == len(words):
            break
    short = [one.rstrip("0").rstrip(".") if "." in one and "e" not in one else one for one in words]
    return tuple(zip(marks, short, strict=True))


def label(axis: Axis, scale: Scale) -> str:
    """What stands beside an axis: its label with the unit in which its ticks are."""
    return f"{axis.label} ({scale.unit})" if scale.unit and axis.label else axis.label


def fits(axis: Axis) -> bool:
    """Whether the names of columns fit under a drawing on a phone; else its tips and its table have them."""
    return len(axis.names) <= 12 and sum(min(len(name), 18) for name in axis.names) <= 44


def noted(chart: Chart, both: tuple[Scale, Scale]) -> dict[Point, str]:
    """The words that stand above marks, without those that would touch an earlier one on a phone."""
    found: dict[Point, str] = {}
    taken: list[tuple[float, float, float]] = []
    for point in (p for one in chart.series if one.form == "marks" for p in one.points if p.note):
        x, y, wide = 300 * both[0].at(point.x), 0.8 * chart.height * both[1].at(point.y), 7.0 * min(len(point.note), 18)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[side(both[0].at(point.x))]
        if all(left > right or left + wide < other or abs(y - height) > 15 for other, right, height in taken):
            taken.append((left, left + wide, y))
            found[point] = point.note
    return found


def side(share: float) -> Literal["start", "middle", "end"]:
    """Where a word above a mark begins, so that it stays in the drawing: at the mark, around it, or before it."""
    return "start" if share < 0.25 else "end" if share > 0.75 else "middle"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers within [low, high]; steps are 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], every other where there are many; with few, also 2 and 5 times these."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, round((last - first) / 5))
    found = [10.0**p for p in range(first, last + 1) if low <= 10.0**p <= high and p % every == 0]
    return found if len(found) >= 3 else _fine(low, high)


def _fine(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high]."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [m * 10.0**p for p in range(first, last + 1) for m in (1, 2, 5) if low <= m * 10.0**p <= high]
