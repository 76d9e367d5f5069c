"""The page of a search: the front of each two objectives, what is drawn, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from report.fixture import OBJECTIVES, beats, make_search, search
from trimtab.core.errors import BadInput, Refused
from trimtab.report import pareto
from trimtab.report.search import Objective, Trial, Value, front, read

GOALS = st.sampled_from(["min", "max"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw imports much
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12), GOALS, GOALS)
def test_the_front_is_what_no_trial_beats(places: list[tuple[int, int]], across: str, up: str) -> None:
    x, y = Objective("x", "", across), Objective("y", "", up)
    found = [Trial(i, "complete", False, "", {}, {"x": Value(a, None), "y": Value(b, None)}, "", 0.0, "")
             for i, (a, b) in enumerate(places)]  # fmt: skip
    kept = front(found, x, y)
    signs = [1 if goal == "min" else -1 for goal in (across, up)]
    costs = [(signs[0] * a, signs[1] * b) for a, b in places]
    slow = {i for i, one in enumerate(costs)
            if not any(o[0] <= one[0] and o[1] <= one[1] and o != one for o in costs)}  # fmt: skip
    assert {one.number for one in kept} == slow
    assert [signs[0] * one.values["x"].value for one in kept] == sorted(
        signs[0] * one.values["x"].value for one in kept
    )


def test_only_complete_trials_are_on_a_front(tmp_path: Path) -> None:
    found = read(make_search(tmp_path))
    x, y = found.objectives[0], found.objectives[2]
    names = [x.name, y.name]
    raw = [point for point in search()["points"] if point["state"] == "complete"]
    expected = {p["number"] for p in raw if not any(beats(other, p, names) for other in raw)}
    assert {one.number for one in front(found.points, x, y)} == expected


def test_every_two_objectives_have_a_drawing_with_quality_upright(tmp_path: Path) -> None:
    view = pareto.build(read(make_search(tmp_path)))
    assert [chart.title for chart in view.pairs.charts] == [
        "Prefill time, batch 1 against weights", "Accuracy, easyvqa against weights",
        "Accuracy, easyvqa against prefill time, batch 1"]  # fmt: skip
    chart = view.pairs.charts[1]
    assert [one.name for one in chart.series] == ["front of the two", "other trials", "stopped early", "on the front",
                                                  "fixed recipes", "on the test split"]  # fmt: skip
    fixed = chart.series[4].points
    assert [point.note for point in fixed] == ["quickstart", "gemma-270m-w4"]
    assert "gptq 3 language; divprune 0.5" in fixed[0].tip
    edge = chart.series[0].points
    assert all(a.x == b.x or a.y == b.y for a, b in pairwise(edge))
    assert len(edge) % 2 == 1


def test_one_to_be_large_beside_one_to_be_small_stands_upright_whatever_their_order(tmp_path: Path) -> None:
    view = pareto.build(read(make_search(tmp_path, objectives=OBJECTIVES[::-1])))
    assert view.pairs.charts[0].y.label.startswith("Accuracy")
    assert view.pairs.charts[1].y.label.startswith("Accuracy")


def test_the_page_and_its_twin(tmp_path: Path) -> None:
    page = pareto.write(make_search(tmp_path))
    assert page == tmp_path / "search.html"
    text = (tmp_path / "search.md").read_text()
    assert "40 trials in 28.5 min, of 30.0 min that it was given: 30 complete, 7 stopped, 3 failed." in text
    assert "**What bound it.** weights: at 0.3x of 16 bits, accuracy falls by 2 points." in text
    assert "## On the test split" in text
    html = page.read_text()
    assert html.count('class="live"') == 3
    assert "group_size 64 does not divide 96" in html
    bare = pareto.write(make_search(tmp_path / "bare", test=[], binding=None))
    assert "On the test split" not in bare.with_suffix(".md").read_text()
    assert "What bound it" not in bare.read_text()


def test_a_user_s_paths_and_names_are_withheld(tmp_path: Path) -> None:
    given = search()
    given["points"][2]["why"] = "/mnt/ward 7/Mueller_Anna.csv, row 3"
    objectives = [*OBJECTIVES[:2], OBJECTIVES[2] | {"name": "accuracy.Mueller_Anna"}]
    for point in given["points"] + given["test"]:
        if point["values"]:
            point["values"]["accuracy.Mueller_Anna"] = point["values"].pop("accuracy.easyvqa")
    folder = make_search(tmp_path, model="/home/ada/ward-llava", objectives=objectives, points=given["points"],
                         test=given["test"])  # fmt: skip
    (folder / "recipes").mkdir()
    (folder / "recipes" / "002.yaml").write_text(
        "model: /home/ada/ward-llava\ntask: {type: vqa, data: '/mnt/ward 7/Mueller_Anna.csv'}\n"
    )
    pareto.write(folder)
    for name in ("search.html", "search.md"):
        text = (folder / name).read_text()
        assert not [word for word in ("Mueller", "ward-llava", "/home/ada", "ward 7") if word in text]
        assert "(local model)" in text
        assert "withheld" in text


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"format": 2}, Refused, "format 2"), ({"objectives": OBJECTIVES[:1]}, BadInput, "got 1"),
        ({"objectives": [{"name": "x", "goal": "low"}, *OBJECTIVES]}, BadInput, r"objectives\.0"),
        ({"points": [{"state": "complete"}]}, BadInput, r"points\.0: no number"),
        ({"points": [{"number": 1, "values": {"odd": {"value": 1}}}]}, BadInput, r"points\.0: values\.odd"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named(tmp_path: Path, more: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        pareto.write(make_search(tmp_path, **more))
    assert not (tmp_path / "search.html").exists()


def test_no_search_and_no_json_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"search\.json: missing"):
        pareto.write(tmp_path)
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(BadInput, match="not valid JSON"):
        pareto.write(tmp_path)
    (tmp_path / "search.json").write_text(json.dumps([1]))
    with pytest.raises(Refused, match="list"):
        pareto.write(tmp_path)
