"""A chart as a figure of plotly: traces and layout as plain data, which the page's script draws.

Colours are written ``@after``: names of the style sheet's properties, which the script puts in place, and again where
the theme changes. Plotly reads text as a subset of HTML; names that strangers chose are escaped here, so that they stay
names. What a mark says goes along raw as ``customdata``, for the line that is read aloud, and a series' name as
``meta``.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import Any

from trimtab.report.chart import Axis, Chart, Point, Series, look
from trimtab.report.scale import Scale, fits, noted, scales, side
from trimtab.report.svg import short, wrapped

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "triangle-down")
MARK, RING, ROW = 9.0, 13.0, 36
"""Diameters of marks and outlines, and the height of a row with a name, in pixels."""
SIDES = {"start": "right", "middle": "center", "end": "left"}
SIZES = {"t": 12, "b": 34, "r": 14}


def live(chart: Chart) -> dict[str, Any]:
    """``{"data": traces, "layout": layout}``, complete but for the width, which the page gives."""
    x, y = scales(chart)
    traces = [trace for one in chart.series for trace in _traces(chart, one, (x, y))]
    rows = len(chart.y.names)
    height = ROW * rows + SIZES["t"] + SIZES["b"] if rows else round(1.3 * chart.height)
    notes = max((len(p.note) for one in chart.series if one.form == "bars" for p in one.points), default=0)
    layout = {
        "height": height, "margin": SIZES | {"l": 8, "r": SIZES["r"] + (7 * notes if rows else 0)},
        "showlegend": False, "barmode": "stack" if chart.stacked else "overlay", "bargap": 0.2,
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "hovermode": "closest",
        "font": {"color": "@ink", "size": 12},
        "hoverlabel": {"bgcolor": "@sheet", "bordercolor": "@soft", "align": "left",
                       "font": {"color": "@ink", "size": 13}},
        "xaxis": _axis(chart.x, x) | {"showgrid": bool(rows), "showline": True, "linecolor": "@soft"}
        | (_named(chart.x, False) if chart.x.names else {}),
        "yaxis": _axis(chart.y, y) | {"showgrid": not rows} | (_named(chart.y, True) if rows else {}),
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def _axis(axis: Axis, scale: Scale) -> dict[str, Any]:
    ends = [math.log10(scale.low), math.log10(scale.high)] if scale.log else [scale.low, scale.high]
    found: dict[str, Any] = {
        "range": ends, "automargin": True, "zeroline": False, "gridcolor": "@hair", "tickcolor": "@soft",
        "tickfont": {"color": "@soft", "size": 12}, "nticks": 5, "exponentformat": "none", "separatethousands": True,
    }  # fmt: skip
    if not scale.log:
        return found
    span = ends[1] - ends[0]
    if span > 2:
        return found | {"type": "log", "dtick": max(1, round(span / 5))}  # raised exponents would need inline styles
    values, words = zip(*scale.ticks, strict=True)
    return found | {"type": "log", "tickvals": list(values), "ticktext": list(words)}


def _named(axis: Axis, rows: bool) -> dict[str, Any]:
    """An axis of names: rows run down the page and all are named; columns only where their names fit on a phone."""
    places = list(range(len(axis.names)))
    if rows:
        lines = ["<br>".join(map(clean, wrapped(name))) for name in axis.names]
        return {"tickvals": places, "ticktext": lines, "fixedrange": True, "range": [len(lines) - 0.5, -0.5],
                "tickfont": {"color": "@ink", "size": 12}}  # fmt: skip
    names = [short(name, 18) for name in axis.names]
    return {"tickvals": places, "ticktext": [clean(name) for name in names], "fixedrange": True,
            "showticklabels": fits(axis), "ticks": "outside" if fits(axis) else ""}  # fmt: skip


def _traces(chart: Chart, one: Series, both: tuple[Scale, Scale]) -> Iterator[dict[str, Any]]:
    x, y = both
    of, points = look(one.look), one.points
    trace: dict[str, Any] = {
        "name": clean(one.name), "meta": one.name,
        "x": [p.x / x.factor for p in points], "y": [p.y / y.factor for p in points],
        "customdata": [p.tip for p in points], "hovertext": [said(p.tip) for p in points], "hoverinfo": "text",
    }  # fmt: skip
    if one.form == "line":
        yield trace | {"type": "scatter", "mode": "lines", "hoverinfo": "text" if points[0].tip else "skip",
                       "line": {"color": f"@{of.colour}", "dash": of.dash, "width": 1.75}}  # fmt: skip
        return
    bars = _whiskers("x", points, x.factor) | _whiskers("y", points, y.factor)
    if one.form == "bars":
        yield from _bars(chart, one, trace | bars, x.factor)
        return
    size = RING if of.hollow else MARK
    outline = {"color": f"@{of.colour}", "width": 2} if of.hollow else {"color": "@paper", "width": 0.5}
    marker = {"symbol": SYMBOLS[of.shape] + ("-open" if of.hollow else ""), "color": f"@{of.colour}", "line": outline,
              "size": [round(size * p.size, 1) for p in points], "opacity": 1}  # fmt: skip
    words = noted(chart, both)
    text = {"text": [clean(short(words.get(p, ""), 18)) for p in points], "cliponaxis": False,
            "textposition": [f"top {SIDES[side(x.at(p.x))]}" for p in points]}  # fmt: skip
    more = text | {"mode": "markers+text"} if any(p in words for p in points) else {"mode": "markers"}
    yield trace | bars | more | {"type": "scatter", "marker": marker}


def _bars(chart: Chart, one: Series, trace: dict[str, Any], factor: float) -> Iterator[dict[str, Any]]:
    """Bars on numbered rows or columns; what stands at the ends of those that lie is a trace of its own."""
    of, upright = look(one.look), bool(chart.x.names)
    middle, width = chart.lane(one)
    hatched = {"shape": of.hatch, "fgcolor": "@paper", "bgcolor": f"@{of.colour}", "fgopacity": 0.6, "size": 6}
    pattern = {"pattern": hatched} if of.hatch else {}
    place = "x" if upright else "y"
    marker = {"color": f"@{of.colour}", "line": {"color": "@paper", "width": 0.5}, **pattern}
    yield trace | {"type": "bar", "orientation": "v" if upright else "h", "width": width * 0.94, "marker": marker,
                   place: [value + middle for value in trace[place]]}  # fmt: skip
    if any(p.note for p in one.points) and not upright:
        yield {"type": "scatter", "mode": "text", "meta": trace["meta"], "hoverinfo": "skip",
               "x": [p.end / factor for p in one.points],
               "y": [value + middle for value in trace["y"]], "text": [f" {clean(p.note)}" for p in one.points],
               "textposition": "middle right", "cliponaxis": False}  # fmt: skip


def _whiskers(axis: str, points: Sequence[Point], factor: float) -> dict[str, Any]:
    ends = [(p.x, p.x_ends) if axis == "x" else (p.y, p.y_ends) for p in points]
    if not any(spread for _, spread in ends):
        return {}
    up = [(spread[1] - value) / factor if spread else 0.0 for value, spread in ends]
    down = [(value - spread[0]) / factor if spread else 0.0 for value, spread in ends]
    return {f"error_{axis}": {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "width": 0,
                              "thickness": 1.5, "color": "@whisker"}}  # fmt: skip


def clean(text: str) -> str:
    """Text that plotly shows as it is."""
    return html.escape(text, quote=False)


def said(tip: str) -> str:
    """A tip with its lines one under the other, none so long that a phone cuts it."""
    return "<br>".join(clean(short(line, 44)) for line in tip.split("\n"))
