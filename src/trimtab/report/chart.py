"""What a picture shows, as data. It is drawn twice from here: by plotly where scripts run (``live``), and as plain SVG
(``still``) for print and for readers without scripts. Plotly gives what a drawing cannot: each mark says its figures to
pointer and keyboard, and the crowded ones can be zoomed into; it costs 4.8 MB a page. The SVG stays because a report is
also printed, mailed and kept for years. One source, so the two cannot disagree.

A meaning is never told by colour alone: every look has a colour, and a shape, a dash or a hatching of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trimtab.report.say import Spread
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
