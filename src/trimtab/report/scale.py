"""A chart's axes fitted to what it shows: ends, ticks, units, and which words have room. Both drawings use the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from trimtab.report.chart import Axis, Chart, Point
from trimtab.report.say import STEPS, plain, rounded, unit_of


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
