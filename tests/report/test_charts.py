"""One description of a chart, drawn twice: what both show, and that no meaning is told by colour alone."""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import plotly.graph_objects as go
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trimtab.report
from report.fixture import BREAKER, HOSTILE, VARIANTS, make, make_search
from trimtab.report import pareto, search
from trimtab.report.chart import Axis, Chart, Plot, Point, Series, look
from trimtab.report.compare import build as compared
from trimtab.report.folder import read
from trimtab.report.live import live
from trimtab.report.page import block, bundle
from trimtab.report.scale import fit, scales
from trimtab.report.still import still
from trimtab.report.view import build
from trimtab.report.write import plots

STYLE = Path(trimtab.report.__file__).with_name("templates") / "style.css"


def every_plot(folder: Path) -> list[Plot]:
    found = [plot for name in VARIANTS for plot in plots(build(read(make(folder / name, name))))]
    found.append(compared([folder / "accepted", folder / "regression", folder / "language"]).cost)
    return [*found, pareto.build(search.read(make_search(folder / "search"))).pairs]


def test_every_figure_is_one_that_plotly_knows(tmp_path: Path) -> None:
    charts = [chart for plot in every_plot(tmp_path) for chart in plot.charts]
    assert len(charts) > 80
    for chart in charts:
        figure = live(chart)
        text = re.sub(r'"@\w+"', '"#123456"', json.dumps(figure))
        go.Figure(json.loads(text))  # raises ValueError on a key or value that it does not know


def test_both_drawings_have_every_mark(tmp_path: Path) -> None:
    for plot in every_plot(tmp_path):
        for chart in plot.charts:
            tips = [point.tip for one in chart.series if one.form != "line" for point in one.points]
            shown = [tip for trace in live(chart)["data"] if trace.get("mode") != "lines"
                     for tip in trace.get("customdata", [])]  # fmt: skip
            assert sorted(shown) == sorted(tips)
            drawn = [html.unescape(tip) for tip in re.findall(r"<title>(.*?)</title>", still(chart), re.S)]
            assert sorted(drawn) == sorted(tips)


def test_keys_of_drawings_are_of_one_page_once(tmp_path: Path) -> None:
    for name in VARIANTS:
        keys = [chart.key for plot in plots(build(read(make(tmp_path / name, name)))) for chart in plot.charts]
        assert len(keys) == len(set(keys))


def test_names_of_strangers_are_text_to_plotly(tmp_path: Path) -> None:
    found = plots(build(read(make(tmp_path / "run", "hostile"))))
    seen = 0
    for chart in (chart for plot in found for chart in plot.charts):
        for trace in live(chart)["data"]:
            read_as_html = [trace.get("name", ""), *trace.get("text", []), *trace.get("hovertext", [])]
            read_as_html += live(chart)["layout"]["yaxis"].get("ticktext", [])
            for words in read_as_html:
                assert not re.search(r"<(?!br>)", words), words
            seen += any(HOSTILE in tip or BREAKER in tip for tip in trace.get("customdata", []))
    assert seen > 3
    text = block(found)
    assert "<" not in text
    assert "&" not in text
    assert text.isascii()


def test_the_script_of_plotly_can_stand_in_a_page() -> None:
    text = bundle()
    assert len(text) > 3_000_000
    assert "</script" not in text.lower()
    assert "<!--" not in text
    assert "\r" not in text
    assert "\0" not in text


@pytest.mark.parametrize("log", [False, True])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw imports much
@given(data=st.data())
def test_an_axis_holds_all_that_it_shows(log: bool, data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from(["s", "bytes", "share", "", "op/s", "count", "odd"]))
    top = 1.0 if unit == "share" else 1e15
    values = data.draw(st.lists(st.floats(1e-9, top), min_size=1, max_size=20))
    zero = data.draw(st.booleans()) and not log
    scale = fit(Axis("x", unit, log=log, zero=zero), values)
    assert all(-1e-6 <= scale.at(value) <= 1 + 1e-6 for value in values)
    assert scale.low < scale.high
    edge = 1e-9 * (scale.high - scale.low) + 1e-12 * abs(scale.high)
    assert all(scale.low - edge <= tick <= scale.high + edge for tick, _ in scale.ticks)
    assert 1 <= len(scale.ticks) <= 12
    words = [text for _, text in scale.ticks]
    assert len(set(words)) == len(words)
    if zero:
        assert scale.low == 0
    ordered = sorted(values)
    assert [scale.at(v) for v in ordered] == sorted(scale.at(v) for v in ordered)


def test_an_axis_is_labelled_in_a_multiple_that_suits() -> None:
    assert (fit(Axis("x", "bytes"), [2.1e6, 8e6]).factor, fit(Axis("x", "bytes"), [2.1e6, 8e6]).unit) == (1e6, "MB")
    assert fit(Axis("x", "s"), [0.0021]).unit == "ms"
    assert fit(Axis("x", "share"), [0.5, 0.97]).unit == "%"
    share = fit(Axis("x", "share"), [1.0, 1.0])
    assert 100 < share.high < 100.5
    assert share.low == 98
    assert [text for _, text in fit(Axis("x", "op/s", log=True), [1e8, 1e12]).ticks] == ["0.0001", "0.001", "0.01",
                                                                                         "0.1", "1"]  # fmt: skip


def test_values_stand_where_they_are() -> None:
    """The mark of a value is as far along as its share of the axis, in both drawings."""
    points = (Point(0.0, 1.0, "a"), Point(5.0, 2.0, "b"), Point(10.0, 4.0, "c"))
    chart = Chart("k", "t", Axis("x", zero=True), Axis("y", log=True), (Series("s", "after", points),))
    x, y = scales(chart)
    trace = live(chart)["data"][0]
    assert trace["x"] == [0.0, 5.0, 10.0]
    assert live(chart)["layout"]["yaxis"]["range"] == [math.log10(y.low), math.log10(y.high)]
    assert x.at(5.0) == pytest.approx(x.at(10.0) / 2)
    assert y.at(2.0) == pytest.approx((y.at(1.0) + y.at(4.0)) / 2)
    marks = re.findall(r'<path d="M([\d.]+) ([\d.]+)', still(chart))
    xs = [float(one[0]) for one in marks]
    assert xs[1] == pytest.approx((xs[0] + xs[2]) / 2, abs=0.15)


@pytest.mark.parametrize("ends", [None, (1.0, 4.0)])
def test_what_is_said_of_a_bar_stands_behind_its_end(ends: tuple[float, float] | None) -> None:
    bar = Series("s", "after", (Point(2.0, 0, "tip", ends, note="2 s"),), "bars")
    chart = Chart("k", "t", Axis("x", "s", zero=True), Axis("", names=("row",)), (bar,))
    words = live(chart)["data"][1]
    assert words["mode"] == "text"
    assert words["x"] == [4.0 if ends else 2.0]
    (stands,) = re.findall(r'<text x="([\d.]+)"[^>]*class="value"', still(chart))
    edge = sum(map(float, re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', still(chart))[0]))
    assert (float(stands) > edge + 50) == (ends is not None)


def test_an_interval_reaches_from_its_low_to_its_high_end() -> None:
    point = Point(5.0, 0.5, "tip", (4.0, 9.0), (0.45, 0.52))
    chart = Chart("k", "t", Axis("x"), Axis("y", "share"), (Series("s", "after", (point,)),))
    (trace,) = live(chart)["data"]
    ends = [(trace[f"error_{axis}"]["arrayminus"][0], trace[f"error_{axis}"]["array"][0]) for axis in "xy"]
    assert ends == [pytest.approx((1.0, 4.0)), pytest.approx((5.0, 2.0))]
    lines = re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="whisker"', still(chart))
    (left, _, right, _), (_, low, _, high) = (tuple(map(float, line)) for line in lines)
    (x, y) = map(float, re.findall(r'<path d="M([\d.]+) ([\d.]+)L', still(chart))[0])
    y += 1.25 * 4.5  # a diamond's path begins at its top
    assert (right - x) / (x - left) == pytest.approx(4.0, rel=0.02)
    assert (low - y) / (y - high) == pytest.approx(2.5, rel=0.02)


def test_stacked_bars_stand_on_one_another() -> None:
    parts = (Series("p", "#0", (Point(2.0, 0, "p"),), "bars"), Series("q", "#1", (Point(3.0, 0, "q"),), "bars"))
    chart = Chart("k", "t", Axis("x", zero=True), Axis("", names=("row",)), parts, stacked=True)
    rows = [
        tuple(map(float, one)) for one in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', still(chart))
    ]
    assert rows[1][0] == pytest.approx(rows[0][0] + rows[0][1], abs=0.02)
    assert rows[1][1] / rows[0][1] == pytest.approx(1.5, rel=1e-3)
    assert live(chart)["layout"]["barmode"] == "stack"
    beside = replace(chart, stacked=False)
    (first, width), (second, _) = beside.lane(parts[0]), beside.lane(parts[1])
    assert second - first == pytest.approx(width)
    assert [trace["y"][0] for trace in live(beside)["data"]] == [first, second]


def test_series_of_a_plot_differ_in_more_than_colour(tmp_path: Path) -> None:
    for plot in every_plot(tmp_path):
        signs = []
        for one in plot.legend:
            of = look(one.look)
            sign = {"line": (of.dash,), "bars": (of.hatch, of.colour in ("before", "image")),
                    "marks": (of.shape, of.hollow)}[one.form]  # fmt: skip
            signs.append((one.form, *sign))
            same = {other.look for chart in plot.charts for other in chart.series if other.name == one.name}
            assert same == {one.look}, (plot.key, one.name)
        assert len(set(signs)) == len(signs), (plot.key, signs)


def colours(dark: bool) -> dict[str, tuple[float, float, float]]:
    text = STYLE.read_text()
    block = text[text.index(':root[data-theme="dark"]') :] if dark else text
    block = block[: block.index("}")]
    return {name: tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
            for name, code in re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)}  # type: ignore[misc]  # fmt: skip


# Machado, Oliveira and Fernandes 2009: what who lacks a kind of cone sees, on linear RGB, at full severity.
SEEN = {
    "whole": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def lab(colour: tuple[float, ...], seen: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
    r, g, b = (min(1.0, max(0.0, sum(m * v for m, v in zip(row, linear, strict=True)))) for row in seen)
    xyz = (0.4124 * r + 0.3576 * g + 0.1805 * b, 0.2126 * r + 0.7152 * g + 0.0722 * b,
           0.0193 * r + 0.1192 * g + 0.9505 * b)  # fmt: skip
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116
               for v in (xyz[0] / 0.9505, xyz[1], xyz[2] / 1.089))  # fmt: skip
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


TOGETHER = (("s0", "s1", "s2", "s3", "s4", "s5"), ("before", "after", "s1", "s2"), ("image", "text", "padding"),
            ("image", "video", "audio", "text"), ("good", "bad"))  # fmt: skip


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("dark", [False, True])
def test_colours_stay_apart_for_who_lacks_a_kind_of_cone(dark: bool, seen: str) -> None:
    found = colours(dark)
    for names in TOGETHER:
        for one, other in combinations(names, 2):
            gap = math.dist(lab(found[one], SEEN[seen]), lab(found[other], SEEN[seen]))
            assert gap > 11, (seen, one, other, gap)


@pytest.mark.parametrize("dark", [False, True])
def test_marks_can_be_told_from_the_paper(dark: bool) -> None:
    found = colours(dark)

    def light(name: str) -> float:
        r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in found[name])
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for name in ("before", "after", "s0", "s1", "s2", "s3", "s4", "s5", "soft", "whisker"):
        low, high = sorted((light(name), light("paper")))
        assert (high + 0.05) / (low + 0.05) >= 3, name
