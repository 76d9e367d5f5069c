"""A chart as plain SVG: what print shows, and what a reader without scripts sees.

Drawings are 360 units wide, the width of a small phone, so that text keeps its size there; wide screens tile them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup

from trimtab.report import svg
from trimtab.report.chart import Chart, Point, Series, look
from trimtab.report.scale import Scale, fits, noted, scales, side

WIDTH, RIGHT, TOP, FOOT, ROW = 360.0, 348.0, 12.0, 22.0, 29.0
LETTER = 6.3
"""About the width of a letter of the ticks."""


@dataclass(frozen=True)
class _Sheet:
    """Where values stand on the drawing, in its units."""

    chart: Chart
    x: Scale
    y: Scale
    left: float
    right: float
    bottom: float

    def across(self, value: float) -> float:
        return self.left + (self.right - self.left) * self.x.at(value)

    def up(self, value: float) -> float:
        share = self.y.at(value)
        return TOP + (self.bottom - TOP) * (share if self.chart.y.names else 1 - share)  # rows run down the page


def still(chart: Chart) -> Markup:
    """An SVG image, named by the chart's title and described by what its marks say."""
    x, y = scales(chart)
    names = [line for _, name in y.ticks for line in svg.wrapped(name)]
    left = 12 + LETTER * max((len(name) for name in names), default=0)
    notes = max((len(p.note) for one in chart.series if one.form == "bars" for p in one.points), default=0)
    bottom = TOP + (ROW * len(chart.y.names) if chart.y.names else chart.height - TOP - FOOT)
    sheet = _Sheet(chart, x, y, left, RIGHT - LETTER * notes if chart.y.names else RIGHT, bottom)
    body = [*_rows(sheet), *_columns(sheet), *_bars(sheet), *_lines(sheet), *_marks(sheet)]
    frame = Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{k}-t {k}-d">'
        '<title id="{k}-t">{title}</title><desc id="{k}-d">{said}</desc>{body}</svg>'
    )
    return frame.format(w=WIDTH, h=round(bottom + FOOT, 1), k=chart.key, title=chart.title, said=chart.said,
                        body=svg.NOTHING.join(body))  # fmt: skip


def _rows(sheet: _Sheet) -> Iterable[Markup]:
    named = bool(sheet.chart.y.names)
    for value, words in sheet.y.ticks:
        y = sheet.up(value * sheet.y.factor)
        if named:
            lines = svg.wrapped(words)
            for at, line in enumerate(lines):
                yield svg.text(0, y + 4 + 12 * (at - (len(lines) - 1) / 2), line, "tick name")
        else:
            yield svg.line(sheet.left, y, RIGHT, y, "grid")
            yield svg.text(sheet.left - 6, y + 4, words, "tick", "end")


def _columns(sheet: _Sheet) -> Iterable[Markup]:
    yield svg.line(sheet.left, sheet.bottom, RIGHT, sheet.bottom, "axis")
    room = -1e9
    for value, words in sheet.x.ticks if fits(sheet.chart.x) else ():
        x, words = sheet.across(value * sheet.x.factor), svg.short(words, 18)
        half = LETTER * len(words) / 2
        if sheet.chart.y.names:
            yield svg.line(x, TOP, x, sheet.bottom, "grid")
        if x - half > room:
            yield svg.line(x, sheet.bottom, x, sheet.bottom + 4, "axis")
            yield svg.text(min(x, WIDTH - half), sheet.bottom + 16, words, "tick", "middle")
            room = x + half + 8


def _bars(sheet: _Sheet) -> Iterable[Markup]:
    upright = bool(sheet.chart.x.names)
    tops: dict[float, float] = {}
    for one in sheet.chart.series:
        if one.form != "bars":
            continue
        offset, width = sheet.chart.lane(one)
        for point in one.points:
            place, value = (point.x, point.y) if upright else (point.y, point.x)
            start = tops.get(place, 0.0) if sheet.chart.stacked else 0.0
            tops[place] = start + value
            yield _bar(sheet, one, point, (place + offset, width), (start, start + value), upright)
            if point.x_ends and not upright:
                yield from _whisker(sheet, point, place + offset)
            if point.note and not upright:
                yield svg.text(sheet.across(point.end) + 6, sheet.up(place + offset) + 4, point.note, "value")


def _bar(
    sheet: _Sheet, one: Series, point: Point, lane: tuple[float, float], ends: tuple[float, float], upright: bool
) -> Markup:
    (place, width), of = lane, look(one.look)
    if upright:
        x, y = sheet.across(place - width / 2), sheet.up(ends[1])
        wide, high = sheet.across(place + width / 2) - x, sheet.up(ends[0]) - y
    else:
        x, y = sheet.across(ends[0]), sheet.up(place - width / 2) + 1
        wide, high = sheet.across(ends[1]) - x, sheet.up(place + width / 2) - y - 1
    return svg.rect(x, y, wide, high, f"c-{of.colour} bar", point.tip) + svg.hatching(x, y, wide, high, of.hatch)


def _whisker(sheet: _Sheet, point: Point, y: float) -> Iterable[Markup]:
    if point.x_ends:
        low, high = (sheet.across(end) for end in point.x_ends)
        yield svg.line(low, sheet.up(y), high, sheet.up(y), "whisker")
    if point.y_ends:
        low, high = (sheet.up(end) for end in point.y_ends)
        yield svg.line(sheet.across(point.x), low, sheet.across(point.x), high, "whisker")


def _lines(sheet: _Sheet) -> Iterable[Markup]:
    for one in sheet.chart.series:
        if one.form == "line":
            of = look(one.look)
            places = [(sheet.across(point.x), sheet.up(point.y)) for point in one.points]
            yield svg.path(places, f"c-{of.colour} stroke {of.dash}")


def _marks(sheet: _Sheet) -> Iterable[Markup]:
    marked = [(one, point) for one in sheet.chart.series if one.form == "marks" for point in one.points]
    words = noted(sheet.chart, (sheet.x, sheet.y))
    for _, point in marked:
        yield from _whisker(sheet, point, point.y)
    hollow_last: Callable[[tuple[Series, Point]], bool] = lambda pair: look(pair[0].look).hollow  # noqa: E731
    for one, point in sorted(marked, key=hollow_last):  # an outline does not hide what is under it
        of = look(one.look)
        x, y = sheet.across(point.x), sheet.up(point.y)
        yield svg.mark(of, x, y, point.tip, (6.5 if of.hollow else 4.5) * point.size)
        if point in words:
            yield svg.text(x, y - 9, svg.short(words[point], 18), "value", side(sheet.x.at(point.x)))
