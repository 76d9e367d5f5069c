"""How good the plan was: each figure measured over predicted, beside the interval in which it was said to lie.

The error of a prediction is measured / predicted - 1, so +10 % came out a tenth higher than was said. The median and
the worst are of its size without its sign, over the figures that were measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.figures import Tone, kind, label
from trimtab.report.folder import Run
from trimtab.report.say import MINUS, Spread, interval, say, times
from trimtab.report.table import Cell, Table, columns
from trimtab.report.tables import ABSENT, reading

WHEN = {"run": "the run itself"}
OFF = 2.0
"""A factor by which a prediction without an interval may miss before it is called OFF."""


@dataclass(frozen=True)
class Guess:
    """A row of the plan; ``when``: before or after the steps, or of the run itself, empty where it does not say;
    ``ends``: the interval of the prediction, None where none was given."""

    when: str
    figure: str
    unit: str
    predicted: float | None
    measured: float | None
    ends: Spread | None

    @property
    def name(self) -> str:
        """What a reader calls it."""
        what = label(self.figure)
        return f"{what}, {WHEN.get(self.when, self.when)}" if self.when else what

    @property
    def error(self) -> float | None:
        """measured / predicted - 1, None where either is missing, not finite, or the prediction is not above 0."""
        if self.predicted is None or self.measured is None or not self.predicted > 0:
            return None
        ratio = self.measured / self.predicted
        return ratio - 1 if math.isfinite(ratio) else None

    @property
    def inside(self) -> bool | None:
        """Whether the measured value lies in the interval of the prediction."""
        if self.ends is None or self.measured is None:
            return None
        return self.ends[0] <= self.measured <= self.ends[1]


def guesses(run: Run) -> list[Guess]:
    """The rows of ``plan`` in ``result.json``."""
    return [_guess(row) for row in run.result.get("plan") or []]


def _guess(row: dict[str, Any]) -> Guess:
    name, low, high = str(row.get("figure", "")), row.get("low"), row.get("high")
    ends = (float(low), float(high)) if low is not None and high is not None else None
    unit = row.get("unit") or kind(name).unit
    return Guess(str(row.get("when", "")), name, unit, row.get("predicted"), row.get("measured"), ends)


def predicted(run: Run) -> Plot:
    """A row for each figure: 1 is what was predicted."""
    found = guesses(run)
    drawn = [one for one in found if one.error is not None and one.error > -1]
    about = "Measured over predicted, a row a figure: 1 is what the plan said, the outlined mark with its bar is the "
    about += "interval that it gave, the filled one is what came. The scale is logarithmic."
    charts = (_chart(drawn),) if drawn else ()
    return Plot("predicted", about, charts, table(run, found))


def _chart(drawn: list[Guess]) -> Chart:
    said, came = [], []
    for row, one in enumerate(drawn):
        assert one.predicted
        assert one.error is not None
        bar = (one.ends[0] / one.predicted, one.ends[1] / one.predicted) if one.ends and one.ends[0] > 0 else None
        ends = f" ({interval(one.ends, one.unit)})" if one.ends else ""
        name = one.name
        said.append(Point(1.0, row, f"{name}\npredicted {say(one.predicted, one.unit)}{ends}", bar))
        words = {True: ", in the interval", False: ", OUTSIDE the interval", None: ""}[one.inside]
        came.append(Point(1 + one.error, row, f"{name}\nmeasured {say(one.measured, one.unit)}: "
                                              f"{percent(one.error)}{words}"))  # fmt: skip
    names = tuple(one.name for one in drawn)
    line = Series("as predicted", "one", (Point(1.0, -0.5, ""), Point(1.0, len(drawn) - 0.5, "")), "line")
    series = (line, Series("predicted", "band", tuple(said)), Series("measured", "after", tuple(came)))
    return Chart("predicted", "Measured over predicted", Axis("Measured / predicted", log=True), Axis("", names=names),
                 series, wide=True)  # fmt: skip


def table(run: Run, found: list[Guess]) -> Table:
    """What the plan said beside what was measured, the error, and whether the interval held."""
    titles = columns("Figure", "#Predicted", "#Measured", "#Error", "Interval")
    return Table("Predicted and measured", titles, tuple(_row(run, one) for one in found))


def _row(run: Run, one: Guess) -> tuple[Cell, ...]:
    error, tone, note = one.error, _tone(one), ""
    text = percent(error) if error is not None else ""
    if error is not None and not 1 / OFF <= 1 + error <= OFF:
        note = f"{times(1 + error)}, OFF"
    held = {True: Cell("inside", "good"), False: Cell("OUTSIDE", "warn"), None: Cell("not given", "quiet")}[one.inside]
    held = held if one.ends is None or one.measured is not None else Cell("", "quiet")
    return (Cell(one.name), _end(run, "plan", one, one.predicted), _end(run, one.when or "after", one, one.measured),
            Cell(text, tone, note, value=error), held)  # fmt: skip


def _tone(one: Guess) -> Tone:
    missed = one.error is not None and not 1 / OFF <= 1 + one.error <= OFF
    return "warn" if missed or one.inside is False else ""


def _end(run: Run, when: str, one: Guess, value: float | None) -> Cell:
    """One side of a row: the run's own reading where it is that value."""
    known = run.get(when, one.figure)
    if known is not None and known.value == value and not (when == "plan" and one.ends):
        return reading(run, when, one.figure)
    if value is None:
        return ABSENT
    ends = one.ends if when == "plan" else None
    return Cell(say(value, one.unit), note=interval(ends, one.unit), value=value, spread=ends, unit=one.unit)


def percent(error: float) -> str:
    """An error with its sign: ``+10.5 %``; a factor where it is large."""
    if error > 9.995:
        return f"+{100 * error:,.0f} %"
    return f"{100 * error:+.1f} %".replace("-", MINUS)


def scored(run: Run) -> str:
    """The sentence on how far off the plan was; empty where nothing can be said."""
    found = [one for one in guesses(run) if one.error is not None]
    if not found:
        return ""
    sizes = [abs(one.error or 0.0) for one in found]
    worst = max(found, key=lambda one: abs(one.error or 0.0))
    words = f"Of {len(found)} predicted figures that were measured, the median error is {100 * median(sizes):.1f} %"
    words += f", the worst {percent(worst.error or 0.0)} ({worst.name})."
    judged = [one.inside for one in found if one.inside is not None]
    return words + (f" {sum(judged)} of {len(judged)} lie in the interval that was given." if judged else "")
