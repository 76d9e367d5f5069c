"""The plan scored, and the roofline: errors, intervals, ceilings, sums."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from report.fixture import BANDWIDTH, PEAKS, make, plan, roofline
from trimtab.report import render
from trimtab.report.folder import Run
from trimtab.report.plots import predicted, spent
from trimtab.report.plots import roofline as roof


def run(**result: Any) -> Run:
    return Run(result, {})


def test_each_figure_has_its_error_and_says_whether_its_interval_held() -> None:
    table = predicted.predicted(run(plan=plan())).table
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["Weights"] == ["2.25 MB", "2.23 MB", "\u22120.7 %", "inside"]
    assert rows["Prefill time, batch 8"] == ["71.2 ms", "78.7 ms", "+10.5 %", "inside"]
    assert rows["Decode time per token, batch 1"] == ["4.10 ms", "5.77 ms", "+40.7 %", "OUTSIDE"]
    assert rows["Seconds, total"] == ["71.0 s", "2.7 min", "+130.8 %", "not given"]
    assert rows["Peak memory"] == ["700 MB", "not measured", "", ""]
    notes = {row[0].text: (row[1].note, row[3].note) for row in table.rows}
    assert notes["Prefill time, batch 8"] == ("60.0 to 85.0 ms", "")
    assert notes["Seconds, total"] == ("", "2.3x, OFF")


def test_the_score_says_the_median_the_worst_and_how_many_intervals_held() -> None:
    assert predicted.scored(run(plan=plan())) == (
        "Of 4 predicted figures that were measured, the median error is 25.6 %, the worst +130.8 % (Seconds, total). "
        "2 of 3 lie in the interval that was given.")  # fmt: skip
    assert predicted.scored(run()) == ""
    assert predicted.scored(run(plan=plan()[4:])) == ""
    assert "interval" not in predicted.scored(run(plan=plan()[3:4]))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw imports much
@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1.0, 4.0)), min_size=1, max_size=9))
def test_errors_are_those_of_an_independent_reckoning(rows: list[tuple[float, float, float]]) -> None:
    given = [{"figure": f"f{i}", "predicted": p, "measured": m, "low": p / w, "high": p * w, "unit": "s"}
             for i, (p, m, w) in enumerate(rows)]  # fmt: skip
    p, m, w = (np.array(column) for column in zip(*rows, strict=True))
    errors = (m - p) / p
    found = predicted.guesses(run(plan=given))
    assert [one.error for one in found] == pytest.approx(errors.tolist(), rel=1e-9, abs=1e-12)
    assert [one.inside for one in found] == ((m >= p / w) & (m <= p * w)).tolist()
    words = predicted.scored(run(plan=given))
    said = re.search(r"the median error is ([\d.]+) %, the worst .* \((f\d)\)", words)
    assert said is not None
    assert float(said[1]) == pytest.approx(100 * float(np.median(np.abs(errors))), rel=1e-6, abs=0.051)
    assert abs(errors[int(said[2][1:])]) == pytest.approx(np.max(np.abs(errors)), rel=1e-9)


def test_the_drawing_has_the_interval_around_one_and_the_mark_where_it_came() -> None:
    (chart,) = predicted.predicted(run(plan=plan())).charts
    said, came = chart.series[1:]
    assert all(point.x == 1.0 for point in said.points)
    assert said.points[1].x_ends == pytest.approx((0.06 / 0.0712, 0.085 / 0.0712))
    assert said.points[3].x_ends is None
    assert [point.x for point in came.points] == pytest.approx([2_234_368 / 2.25e6, 0.0787 / 0.0712, 0.00577 / 0.0041,
                                                                163.9 / 71])  # fmt: skip
    assert chart.x.log
    assert "OUTSIDE" in came.points[2].tip


@pytest.mark.parametrize(
    "row",
    [{"predicted": None, "measured": 1.0}, {"predicted": 0.0, "measured": 1.0}, {"predicted": 1.0, "measured": None},
     {"predicted": 1.0, "measured": math.nan}, {"predicted": -1.0, "measured": 1.0}],
)  # fmt: skip
def test_what_cannot_be_compared_has_no_error(row: dict[str, Any]) -> None:
    (one,) = predicted.guesses(run(plan=[{"figure": "x", "unit": "s"} | row]))
    assert one.error is None


def test_equal_work_of_many_layers_is_one_mark_with_its_seconds_added() -> None:
    rows = roofline()["sides"][2]["rows"]
    found = {work.name: work for work in roof.grouped(rows)}
    assert set(found) == {"model.embed", *(f"model.language.layers.*.{one}" for one in (
        "self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj", "self_attn"))}  # fmt: skip
    up = found["model.language.layers.*.mlp.up_proj"]
    assert up.count == 6
    assert up.seconds == pytest.approx(sum(row["seconds"] for row in rows if row["name"].endswith("up_proj")))
    assert sum(work.seconds for work in found.values()) == pytest.approx(sum(row["seconds"] for row in rows))
    assert not found["model.embed"].drawn


def test_no_mark_stands_above_the_roof_and_its_slopes_are_the_bandwidths() -> None:
    plot = roof.roofline(run(roofline=roofline()))
    assert plot.choices == ("vision, batch 1, 272 tokens", "prefill, batch 1, 272 tokens",
                            "prefill, batch 8, 272 tokens", "decode, batch 1, 272 tokens")  # fmt: skip
    for chart in plot.charts:
        lines = [one for one in chart.series if one.form == "line"]
        assert len(lines) == len(PEAKS) + len(BANDWIDTH)
        for line, peak in zip(lines, sorted(PEAKS.values(), reverse=True), strict=False):
            assert {point.y for point in line.points} == {peak}
        slopes = [line.points[-1].y / line.points[-1].x for line in lines[len(PEAKS) :]]
        assert slopes == pytest.approx(sorted(BANDWIDTH.values(), reverse=True))
        for one in chart.series:
            if one.form == "marks":
                for point in one.points:
                    assert point.y <= min(max(PEAKS.values()), point.x * max(BANDWIDTH.values())) * (1 + 1e-9)
        sizes = [point.size for one in chart.series if one.form == "marks" for point in one.points]
        assert max(sizes) == roof.LARGEST
        assert min(sizes) >= roof.SMALLEST


def test_seconds_by_part_and_by_layer_add_up_to_the_phase() -> None:
    given = roofline()
    plot, layers = spent.spent(run(roofline=given)), spent.bounds(run(roofline=given))
    for side in given["sides"]:
        total = sum(row["seconds"] for row in side["rows"])
        by_layer = next(c for c in layers.charts if c.choice == roof.choice(side) and c.title.endswith(side["when"]))
        assert sum(p.y for one in by_layer.series for p in one.points) == pytest.approx(total)
        row = 0 if side["when"] == "before" else 1
        by_part = next(c for c in plot.charts if c.choice == roof.choice(side))
        assert sum(p.x for one in by_part.series for p in one.points if p.y == row) == pytest.approx(total)
    names = layers.charts[0].x.names
    assert names == ("embedding", *(f"vision {i}" for i in range(6)))
    heads = [row[0].text for row in roof.roofline(run(roofline=given)).table.rows if len(row) == 1]
    assert heads[0].startswith("vision, batch 1, 272 tokens, before: predicted ")
    assert heads[0].endswith("not measured")
    assert heads[2].endswith("(+17.0 %)")


def test_runs_from_before_it_was_recorded_have_no_such_sections(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    for key in ("plan", "roofline", "data"):
        del result[key]
    (folder / "result.json").write_text(json.dumps(result))
    render(folder)
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for words in ("Roofline", "Predicted"):
        assert words not in text
    assert 'id="predicted"' not in page
    assert 'id="roofline"' not in page
    render(make(tmp_path / "whole"))
    assert "## Roofline" in (tmp_path / "whole" / "report.md").read_text()


def test_a_machine_whose_ceilings_are_not_known_has_marks_alone() -> None:
    given = roofline()
    given["machine"] = {"name": "x", "peaks": {}, "bandwidth": {}}
    plot = roof.roofline(run(roofline=given))
    assert plot.charts
    assert {one.form for chart in plot.charts for one in chart.series} == {"marks"}
