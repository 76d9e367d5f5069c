"""Looks that were set before: their levels share 5 %, and stopping at the first that decides is wrong no oftener."""

from __future__ import annotations

import random
from functools import cache

import pytest

from trimtab.evaluate.paired import ALPHA, decide, decision, drop
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.sequential import Look, level, looks


def test_the_looks_of_two_thousand_samples() -> None:
    assert [look.n for look in looks(2000, 512)] == [512, 1024, 2000]
    assert [round(look.alpha, 4) for look in looks(2000, 512)] == [0.01, 0.01, 0.03]
    assert [look.n for look in looks(1000, 512)] == [512, 1000]
    assert looks(100, 512) == (Look(100, pytest.approx(0.05)),)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 500, 9673])
@pytest.mark.parametrize("step", [1, 3, 16, 512])
def test_levels_share_the_whole_and_sizes_are_whole_steps(n: int, step: int) -> None:
    plan = looks(n, step)
    assert sum(look.alpha for look in plan) == pytest.approx(ALPHA)
    assert plan[-1].n == n
    assert all(look.n % step == 0 for look in plan[:-1])
    assert level(plan, n) == plan[-1].alpha
    assert level(plan, plan[0].n) == plan[0].alpha


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 samples"):
        looks(0, 4)


def outcome(rng: random.Random, lost: float, gained: float, n: int) -> tuple[list[Prediction], list[Prediction]]:
    before, after = [], []
    for i in range(n):
        u = rng.random()
        was, now = (True, False) if u < lost else (False, True) if u < lost + gained else (True, True)
        before.append(Prediction(str(i), "", was, float(was)))
        after.append(Prediction(str(i), "", now, float(now)))
    return before, after


@cache
def at_look(lost: int, gained: int, look: Look, limit: float) -> str:
    return decide(lost, gained, look.n, limit, look.alpha)


def first(before: list[Prediction], after: list[Prediction], limit: float) -> str:
    for look in looks(len(before), 20):
        pairs = list(zip(before[: look.n], after[: look.n], strict=True))
        lost = sum(old.correct and not new.correct for old, new in pairs)
        found = at_look(lost, sum(new.correct and not old.correct for old, new in pairs), look, limit)
        if found != "inconclusive":
            return found
    return "inconclusive"


def test_a_drop_on_the_limit_is_called_met_in_at_most_five_percent() -> None:
    """On the limit both decisions are wrong: 600 runs, at most 30 expected of each, 47 has chance 0.2 %."""
    rng = random.Random(0)
    found = [first(*outcome(rng, 0.12, 0.02, 120), 0.10) for _ in range(600)]
    assert 0 < found.count("met") <= 46
    assert 0 < found.count("regression") <= 46


def test_a_clear_case_ends_at_the_first_look() -> None:
    before, after = outcome(random.Random(1), 0.0, 0.0, 2000)
    assert decision(drop(before[:500], after[:500], looks(2000, 500)[0].alpha), 0.01) == "met"
