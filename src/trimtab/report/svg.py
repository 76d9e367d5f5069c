"""Small inline SVG, by hand: the marks of which ``still`` makes drawings, and the key beside each plot's words.

All text passes through ``Markup.format``, which escapes it. Colours are classes of the style sheet, so that a drawing
follows the page in light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from trimtab.report.chart import Look, Series, look

NOTHING = Markup("")


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


def mark(of: Look, x: float, y: float, tip: str = "", size: float = 5.0) -> Markup:
    """A mark of a look's shape, filled or an outline."""
    s, d = size, 1.25 * size
    outlines = (
        f"M{x - s:.1f} {y:.1f}a{s:.1f} {s:.1f} 0 1 0 {2 * s:.1f} 0a{s:.1f} {s:.1f} 0 1 0 {-2 * s:.1f} 0z",
        f"M{x:.1f} {y - d:.1f}L{x + d:.1f} {y:.1f}L{x:.1f} {y + d:.1f}L{x - d:.1f} {y:.1f}z",
        f"M{x - s:.1f} {y - s:.1f}h{2 * s:.1f}v{2 * s:.1f}h{-2 * s:.1f}z",
        f"M{x:.1f} {y - d:.1f}L{x + d:.1f} {y + s:.1f}L{x - d:.1f} {y + s:.1f}z",
        f"M{x:.1f} {y + d:.1f}L{x + d:.1f} {y - s:.1f}L{x - d:.1f} {y - s:.1f}z",
    )
    style = f"c-{of.colour} {'ring' if of.hollow else 'disc'}"
    return Markup('<path d="{}" class="{}"><title>{}</title></path>').format(outlines[of.shape], style, tip)


def key(one: Series) -> Markup:
    """What a series looks like, for the key: a line, a square of a bar's colour, or its mark."""
    of = look(one.look)
    drawn = mark(of, 7, 7)
    if one.form == "line":
        drawn = line(0, 7, 14, 7, f"c-{of.colour} stroke {of.dash}")
    elif one.form == "bars":
        drawn = rect(0, 0, 14, 14, f"c-{of.colour} bar") + hatching(0, 0, 14, 14, of.hatch, 5)
    return Markup('<svg class="key" viewBox="0 0 14 14" aria-hidden="true">{}</svg>').format(drawn)


def hatching(x: float, y: float, width: float, height: float, kind: str, step: float = 6.0) -> Markup:
    """Lines or dots over a rectangle, by plotly's names for them: / \\ x - and a dot."""
    found: list[str] = []
    if kind == "." and width > 3 and height > 3:
        found = [
            f"M{x + a:.1f} {y + b:.1f}h1" for a in _every(step / 2, width, step) for b in _every(step / 2, height, step)
        ]
    if kind == "-":
        found = [f"M{x:.1f} {y + b:.1f}h{width:.1f}" for b in _every(step / 2, height, step)]
    for sign in "/\\" if kind == "x" else kind if kind in "/\\" else "":
        for c in _every(step / 2, width + height, step):  # the line across + down = c, cut at the edges
            a, b = max(0.0, c - height), min(width, c)
            left, right = (a, b) if sign == "/" else (width - a, width - b)
            found.append(f"M{x + left:.1f} {y + c - a:.1f}L{x + right:.1f} {y + c - b:.1f}")
    return Markup('<path d="{}" class="hatch"/>').format("".join(found)) if found else NOTHING


def _every(start: float, end: float, step: float) -> list[float]:
    return [start + step * index for index in range(math.ceil(max(0.0, end - start) / step))]


def wrapped(words: str, length: int = 19) -> list[str]:
    """A name in one line or two, of about ``length`` letters at most."""
    if len(words) <= length:
        return [words]
    cut = words.rfind(", ", 0, length) + 1 or words.rfind(" ", 0, length + 1)
    head, tail = (words[:cut], words[cut:].lstrip()) if cut > 0 else (words[:length], words[length:])
    return [head, short(tail, length)]


def short(words: str, length: int = 22) -> str:
    """``words`` with an ellipsis where they would not fit a plot; the table has them whole."""
    return words if len(words) <= length else words[: length - 1] + "…"
