"""Small inline SVG, by hand.

Why no plotting library: these plots have tens of marks, not thousands. Plotly's script is 4 MB in each report and draws
to a canvas of its own styles; what is here is a few kilobytes, follows the page's colours in light, dark and print, is
there without scripts, and is read aloud from its title, description and the table beneath it.

Panels are 360 units wide, the width of a small phone, so that text keeps its size there; wide screens tile them.
All text passes through ``Markup.format``, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trimtab.report.table import Table

WIDTH = 360
NOTHING = Markup("")


@dataclass(frozen=True)
class Panel:
    """One drawing with its name in words."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Plot:
    """Panels that belong together, what they show in a sentence, a key of marks and words, the figures as a table."""

    key: str
    about: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[Markup, str], ...]
    table: Table

    def __bool__(self) -> bool:
        return bool(self.panels)


def panel(key: str, title: str, about: str, height: float, body: Iterable[Markup]) -> Panel:
    """An SVG image named by ``title`` and described by ``about``."""
    frame = Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{k}-t {k}-d">'
        '<title id="{k}-t">{title}</title><desc id="{k}-d">{about}</desc>{body}</svg>'
    )
    return Panel(
        title, frame.format(w=WIDTH, h=round(height, 1), k=key, title=title, about=about, body=NOTHING.join(body))
    )


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(
        x, y, style, anchor, words
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, style)


def rect(x: float, y: float, width: float, height: float, style: str, tip: str = "") -> Markup:
    return Markup(
        '<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" class="{}"><title>{}</title></rect>'
    ).format(x, y, max(width, 0.0), max(height, 0.0), style, tip)


def path(points: Sequence[tuple[float, float]], style: str) -> Markup:
    steps = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return Markup('<path d="{}" class="{}"/>').format(steps, style)


def mark(shape: int, x: float, y: float, style: str, tip: str = "", size: float = 5.0) -> Markup:
    """A mark whose shape tells series apart without colour: 0 circle, 1 diamond, 2 square, 3 triangle, and again."""
    s, d = size, 1.25 * size
    outlines = (
        f"M{x - s:.1f} {y:.1f}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0z",
        f"M{x:.1f} {y - d:.1f}L{x + d:.1f} {y:.1f}L{x:.1f} {y + d:.1f}L{x - d:.1f} {y:.1f}z",
        f"M{x - s:.1f} {y - s:.1f}h{2 * s}v{2 * s}h{-2 * s}z",
        f"M{x:.1f} {y - 1.2 * s:.1f}L{x + 1.2 * s:.1f} {y + s:.1f}L{x - 1.2 * s:.1f} {y + s:.1f}z",
    )
    return Markup('<path d="{}" class="{}"><title>{}</title></path>').format(outlines[shape % 4], style, tip)


def key(shape: int, style: str) -> Markup:
    """A mark alone, for the key."""
    drawn = Markup('<svg class="key" viewBox="0 0 14 14" aria-hidden="true">{}</svg>')
    return drawn.format(mark(shape, 7, 7, style))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers within [low, high]; steps are 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def short(words: str, length: int = 22) -> str:
    """``words`` with an ellipsis where they would not fit a plot; the table has them whole."""
    return words if len(words) <= length else words[: length - 1] + "…"
