"""A budget as goals: who meets it, what binds where nobody does, and when a point has been asked enough."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from trimtab.core.errors import BadInput
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.sequential import looks
from trimtab.run.recipe import Recipe
from trimtab.run.search.final import Pairs, Read, finalists
from trimtab.run.search.goals import Goal, binding, distance, goals, meets, violations
from trimtab.run.search.point import Bounds, Outcome, Point, best, objectives
from trimtab.run.search.stopping import Rival, reason, rival

OBJECTIVES = objectives(4, "easyvqa")
BYTES, PREFILL, ACCURACY = (one.name for one in OBJECTIVES)
GOALS = (
    Goal("accuracy", "accuracy", 0.01, "accuracy.max_drop 1pt"),
    Goal("weights", BYTES, 400.0, "weights.max 0.4x"),
    Goal("prefill", PREFILL, 0.07, "prefill.max 0.7x"),
)


def point(number: int, size: float, seconds: float, right: float, lost: float = 0.0, **more: object) -> Point:
    values = {BYTES: Bounds.counted(size), PREFILL: Bounds(seconds, 0.98 * seconds, 1.02 * seconds),
              ACCURACY: Bounds(right, right - 0.01, right + 0.01)}  # fmt: skip
    outcome = Outcome("complete", "", values, Bounds(lost, lost - 0.004, lost + 0.004), 100)
    return Point(number, {}, (), outcome, **more)


def answers(right: list[int]) -> list[Prediction]:
    return [Prediction(str(i), "", bool(one), float(one)) for i, one in enumerate(right)]


def test_goals_are_shares_of_the_untouched_model() -> None:
    plain = {"model": "builtin:easyvqa-llava", "task": {"dataset": "easyvqa"}, "steps": ["gptq"],
             "measure": {"batch_size": 4},
             "budget": {"accuracy": {"max_drop": "1pt"}, "weights": {"max": "0.4x"}, "prefill": {"max": "20ms"},
                        "cache": {"max": "0.5x"}, "memory": {"max": "1.0x"}}}  # fmt: skip
    found = goals(Recipe.parse(plain), {BYTES: 1000.0, PREFILL: 0.1, "bytes.cache.b1": 300.0})
    assert [(one.axis, one.figure, one.limit) for one in found] == [
        ("accuracy", "accuracy", 0.01), ("weights", BYTES, 400.0), ("prefill", PREFILL, 0.02),
        ("cache", "bytes.cache.b1", 150.0),
    ]  # fmt: skip


def test_a_goal_is_met_by_the_bound_and_not_by_the_value() -> None:
    assert meets(GOALS, point(0, 400, 0.0686, 1.0, 0.006).outcome)
    assert not meets(GOALS, point(0, 400, 0.0690, 1.0, 0.006).outcome), "0.069 s, but at most 0.0704"
    assert not meets(GOALS, point(0, 400, 0.05, 1.0, 0.0061).outcome), "the bound of what was lost is 1.01 points"
    assert not meets(GOALS, point(0, 401, 0.05, 1.0).outcome)
    small = point(0, 1, 0.01, 1.0).outcome
    assert meets(GOALS, small)
    unseen = {name: value for name, value in small.values.items() if name != PREFILL}
    assert not meets(GOALS, replace(small, values=unseen)), "a figure that was not taken meets nothing"
    assert not meets(GOALS, Outcome("stopped", "", point(0, 1, 0.01, 1.0).outcome.values, Bounds.counted(0.0), 9))


def test_what_binds_is_the_goal_that_the_nearest_point_misses_by_most() -> None:
    near, far = point(1, 440, 0.05, 1.0), point(2, 100, 0.07, 0.5, 0.5)
    found = binding(GOALS, [far, near])
    assert found is not None
    assert (found.point.number, found.goal.axis) == (1, "weights")
    assert found.by == pytest.approx(0.1)
    assert distance(GOALS, near.outcome) == pytest.approx(0.1)
    assert distance(GOALS, far.outcome) == pytest.approx(0.02 + 49.4)
    assert violations(GOALS, near.outcome)["prefill"] < 0
    assert binding(GOALS, [far, near, point(3, 10, 0.01, 1.0)]) is None
    assert binding(GOALS, [Point(0, {}, (), Outcome("failed", "no"))]) is None


def test_a_rival_is_surely_smaller_and_faster_and_the_best_of_these() -> None:
    mine = dict(point(9, 100, 0.05, 0.9).outcome.values)
    every = [point(1, 90, 0.04, 0.7), point(2, 100, 0.04, 0.8), point(3, 90, 0.0495, 0.99), point(4, 101, 0.01, 1.0)]
    found = rival(mine, every, OBJECTIVES)
    assert found is not None
    assert found.number == 2, "3 is not surely faster, 4 is larger"
    assert rival(mine, every[2:], OBJECTIVES) is None


def test_asking_ends_where_the_budget_is_surely_broken() -> None:
    before = answers([1] * 400)
    look = looks(400, 20)[0]
    assert look.n == 100
    assert "breaks the budget" in reason(answers([1] * 80 + [0] * 20), before, None, look, 0.01)
    assert reason(answers([1] * 97 + [0] * 3), before, None, look, 0.01) == ""
    assert reason(answers([0] * 100), before, None, look, None) == "", "nothing says how much may be lost"


def test_asking_ends_where_the_rival_can_no_longer_be_reached() -> None:
    before, look = answers([1] * 400), looks(400, 20)[0]
    best_of_all = Rival(7, answers([1] * 400))
    assert "can no longer" in reason(answers([1] * 100), before, best_of_all, look, 0.5)
    nearly = Rival(7, answers([1] * 399 + [0]))
    assert reason(answers([1] * 100), before, nearly, look, 0.5) == ""
    assert "can no longer" in reason(answers([1] * 99 + [0]), before, nearly, look, 0.5)


def test_asking_ends_where_the_rival_is_surely_right_more_often() -> None:
    before, look = answers([1] * 400), looks(400, 20)[0]
    other = Rival(7, answers([1] * 100 + [0] * 300))
    assert "surely right more often" in reason(answers([1] * 80 + [0] * 20), before, other, look, 1.0)
    assert reason(answers([1] * 98 + [0] * 2), before, other, look, 1.0) == ""


def test_finalists_dominate_most_references_then_are_right_then_cheap() -> None:
    references = [point(0, 300, 0.05, 1.0, reference="quick"), point(1, 900, 0.03, 1.0, reference="quarter")]
    every = [*references, point(2, 250, 0.04, 1.0), point(3, 200, 0.02, 0.999), point(4, 150, 0.01, 0.996),
             point(5, 100, 0.005, 0.9, 0.1), point(6, 260, 0.041, 0.99)]  # fmt: skip
    assert [one.number for one in best(every, OBJECTIVES)] == [1, 2, 3, 4, 5]
    found = finalists(every, GOALS, OBJECTIVES)
    assert [one.number for one in found] == [3, 4], "2 does not dominate the quarter, 5 breaks the budget"
    assert finalists([references[1]], GOALS, OBJECTIVES) == []


def test_to_dominate_takes_every_bound() -> None:
    rng = random.Random(0)
    slow = [1 + 0.02 * rng.random() for _ in range(20)]
    fast = [0.8 * one for one in slow]
    right = answers([1] * 2000)
    pairs = Pairs({"a": right, "b": answers([1] * 1990 + [0] * 10)},
                  {"a": {"prefill": slow}, "b": {"prefill": fast}}, {"a": 100.0, "b": 90.0}, 0.0125, 0.01)  # fmt: skip
    found = pairs.against("b", "a")
    assert found["dominates"]
    assert found["bytes"] == 0.9
    assert found["prefill"]["high"] < 1 <= pairs.against("a", "b")["prefill"]["low"]
    assert found["lost"]["value"] == pytest.approx(0.005)
    wide = Pairs(pairs.answers, pairs.times, pairs.held, 0.05, 0.01).against("b", "a")
    assert wide["prefill"]["high"] < found["prefill"]["high"], "a smaller level is a wider bound"
    for broken in (
        Pairs(pairs.answers, pairs.times, {"a": 100.0, "b": 100.0}, 0.0125, 0.01),
        Pairs(pairs.answers, {"a": {"prefill": slow}, "b": {"prefill": slow}}, pairs.held, 0.0125, 0.01),
        Pairs(pairs.answers | {"b": answers([1] * 1985 + [0] * 15)}, pairs.times, pairs.held, 0.0125, 0.01),
    ):
        assert not broken.against("b", "a")["dominates"]
    rough = [one + 0.5 * (-1) ** i for i, one in enumerate(slow)]
    unsure = Pairs(pairs.answers, {"a": {"prefill": slow}, "b": {"prefill": rough}}, pairs.held, 0.0125, 0.01)
    ratio = unsure.against("b", "a")["prefill"]
    assert ratio["low"] < 1 < ratio["high"]


def test_faster_by_the_median_alone_does_not_dominate() -> None:
    slow, fast = [1.0, 1.02, 1.01, 1.03, 1.04], [0.9, 1.2, 0.95, 1.3, 0.99]
    right = answers([1] * 2000)
    times = {"a": {"prefill": slow}, "b": {"prefill": fast}}
    found = Pairs({"a": right, "b": right}, times, {"a": 2.0, "b": 1.0}, 0.05, 0.01).against("b", "a")
    assert found["prefill"]["value"] < 1 < found["prefill"]["high"]
    assert not found["dominates"]


def test_all_references_are_to_be_dominated() -> None:
    one = point(3, 1, 1, 1)
    yes, no = {"dominates": True}, {"dominates": False}
    assert Read(one, one.outcome, True, {"a": yes, "b": yes}).dominates
    assert not Read(one, one.outcome, True, {"a": yes, "b": no}).dominates
    assert not Read(one, one.outcome, True, {}).dominates, "a reference dominates none"


def test_a_budget_on_perplexity_is_refused() -> None:
    plain = {"model": "builtin:gemma-3-270m", "task": {"dataset": "text"}, "steps": ["gptq"],
             "budget": {"perplexity": {"max": "1.1x"}}}  # fmt: skip
    with pytest.raises(BadInput, match=r"budget\.perplexity"):
        goals(Recipe.parse(plain), {})
