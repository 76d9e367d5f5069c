"""Bounds of a paired drop: against slow references, and their coverage enumerated outcome by outcome."""

from __future__ import annotations

import math
import random

import pytest
import torch

from trimtab.core.errors import Anomaly
from trimtab.evaluate import matched
from trimtab.evaluate.paired import Drop, bounds, decide, decision, drop, more_samples
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.shares import accuracy, wilson
from trimtab.evaluate.student import t_below, t_quantile


def _double(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def _log_chance(b: int, c: int, n: int, p: float, q: float) -> float:
    rest = n - b - c
    if (b and p <= 0) or (c and q <= 0) or (rest and 1 - p - q <= 0):
        return -math.inf
    logs = [k * math.log(rate) for k, rate in ((b, p), (c, q), (rest, 1 - p - q)) if k]
    return math.lgamma(n + 1) - sum(math.lgamma(k + 1) for k in (b, c, rest)) + sum(logs)


def _side(lost: int, gained: int, n: int) -> tuple[list[Prediction], list[Prediction]]:
    before = [i < lost or i >= lost + gained for i in range(n)]
    after = [i >= lost for i in range(n)]
    sides = [[Prediction(str(i), "", ok, float(ok)) for i, ok in enumerate(side)] for side in (before, after)]
    return sides[0], sides[1]


@pytest.mark.parametrize(("b", "c", "n", "d"), [(5, 2, 60, 0.1), (0, 3, 40, 0.05), (7, 7, 50, -0.02), (9, 0, 30, 0.2)])
def test_nuisance_maximizes_the_likelihood(b: int, c: int, n: int, d: float) -> None:
    found = float(matched.nuisance(_double(b), _double(c), n, d))
    grid = [max(0.0, -d) + i / 20_000 for i in range(20_000)]
    best = max(grid, key=lambda q: _log_chance(b, c, n, q + d, q) if q + d >= 0 and 2 * q + d < 1 else -math.inf)
    assert found == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize(("b", "c", "n"), [(4, 1, 25), (0, 0, 30), (3, 9, 20)])
@pytest.mark.parametrize("d", [-0.1, 0.01, 0.3])
def test_p_value_is_the_sum_over_outcomes_as_small(b: int, c: int, n: int, d: float) -> None:
    q = float(matched.nuisance(_double(b), _double(c), n, d))
    at = float(matched.score(_double(b), _double(c), n, d))
    total = 0.0
    for one in range(n + 1):
        for other in range(n + 1 - one):
            if float(matched.score(_double(one), _double(other), n, d)) <= at + 1e-9:
                total += math.exp(_log_chance(one, other, n, q + d, q))
    assert matched.p_below(b, c, n, d) == pytest.approx(total, abs=1e-9)


def test_score_is_the_distance_in_standard_deviations() -> None:
    """Of b - c, whose variance is n (p + q - (p - q)**2), at the most likely p and q with p - q = d."""
    for b, c, n, d in ((5, 2, 60, 0.1), (9, 0, 30, 0.2), (7, 7, 50, -0.02)):
        q = float(matched.nuisance(_double(b), _double(c), n, d))
        spread = math.sqrt(n * (2 * q + d - d * d))
        assert float(matched.score(_double(b), _double(c), n, d)) == pytest.approx((b - c - n * d) / spread)


def test_score_is_mcnemars_at_no_drop() -> None:
    assert float(matched.score(_double(9), _double(4), 100, 0.0)) == pytest.approx((9 - 4) / math.sqrt(9 + 4))


@pytest.mark.parametrize(
    ("n", "p", "q"), [(30, 0.1, 0.05), (100, 0.02, 0.01), (100, 0.001, 0.05), (300, 0.012, 0.002), (500, 0.01, 0.0)]
)
def test_bounds_cover_the_true_drop(n: int, p: float, q: float) -> None:
    """P(upper bound >= D) and P(lower bound <= D), each summed over every outcome, are at least 95 %."""
    for one, other, p_value in ((p, q, matched.p_below), (q, p, matched.p_above)):
        missed = 0.0
        for b in range(n + 1):
            for c in range(n + 1 - b):
                log = _log_chance(b, c, n, one, other)
                if log > -14 and p_value(b, c, n, one - other) <= 0.05:
                    missed += math.exp(log)
        assert missed <= 0.0501


def test_nothing_lost_is_the_rule_of_three() -> None:
    low, high = bounds(0, 0, 300)
    assert high == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-4)
    assert low == pytest.approx(-high, abs=1e-6)
    assert decide(0, 0, 298, 0.01) == "inconclusive"
    assert decide(0, 0, 299, 0.01) == "met"


@pytest.mark.parametrize(("lost", "gained", "n"), [(12, 3, 500), (0, 5, 80), (40, 42, 2000), (30, 0, 30), (2, 1, 4)])
def test_bounds_are_where_the_decision_turns(lost: int, gained: int, n: int) -> None:
    low, high = bounds(lost, gained, n)
    value = (lost - gained) / n
    assert -1 <= low <= value <= high <= 1
    if high < 1:
        assert decide(lost, gained, n, high + 1e-5) == "met"
        assert decide(lost, gained, n, high - 1e-5) != "met"
    if low > -1:
        assert decide(lost, gained, n, low - 1e-5) == "regression"
    swapped = bounds(gained, lost, n)
    assert swapped == pytest.approx((-high, -low), abs=1e-5)


def test_many_flips_agree_with_the_normal_interval() -> None:
    lost, gained, n = 400, 300, 4000
    low, high = bounds(lost, gained, n)
    half = 1.6449 * math.sqrt((lost + gained) / n - ((lost - gained) / n) ** 2) / math.sqrt(n)
    assert high - 0.025 == pytest.approx(half, rel=0.02)
    assert 0.025 - low == pytest.approx(half, rel=0.02)


def test_drop_counts_flips_and_decides() -> None:
    found = drop(*_side(9, 4, 2000))
    assert (found.lost, found.gained, found.n, found.value) == (9, 4, 2000, 5 / 2000)
    assert decision(found, 0.01) == "met"
    assert decision(drop(*_side(60, 5, 2000)), 0.01) == "regression"
    assert decision(drop(*_side(3, 1, 100)), 0.01) == "inconclusive"


def test_drop_of_other_samples_is_an_anomaly() -> None:
    before, after = _side(1, 1, 10)
    with pytest.raises(Anomaly, match="not predictions of the same samples"):
        drop(before, after[::-1])


def test_soft_scores_use_students_t() -> None:
    rng = random.Random(0)
    scores = [(rng.random(), rng.random()) for _ in range(40)]
    sides = [[Prediction(str(i), "", pair[k] > 0.5, pair[k]) for i, pair in enumerate(scores)] for k in (0, 1)]
    found = drop(sides[0], sides[1])
    gaps = torch.tensor([x - y for x, y in scores], dtype=torch.float64)
    half = 1.684875 * float(gaps.std()) / math.sqrt(40)  # t(0.95, 39)
    assert (found.low, found.high) == pytest.approx((float(gaps.mean()) - half, float(gaps.mean()) + half), rel=1e-5)


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 100), (3, 1, 400), (22, 5, 1000), (6, 3, 500)])
def test_more_samples_decide_when_the_rates_stay(lost: int, gained: int, n: int) -> None:
    found = Drop((lost - gained) / n, *bounds(lost, gained, n), lost, gained, n)
    assert decision(found, 0.01) == "inconclusive"
    more = more_samples(found, 0.01)
    assert more is not None
    total, near = n + more, n + int(0.9 * more)
    assert decide(lost * total / n, gained * total / n, total, 0.01) != "inconclusive"
    assert decide(lost * near / n, gained * near / n, near, 0.01) == "inconclusive"


def test_no_number_of_samples_decides_on_the_limit() -> None:
    assert more_samples(Drop(0.01, *bounds(5, 0, 500), 5, 0, 500), 0.01) is None
    assert more_samples(Drop(0.0, *bounds(0, 0, 1000), 0, 0, 1000), 0.01) == 0


@pytest.mark.parametrize(
    ("p", "df", "t"), [(0.95, 1, 6.313752), (0.95, 23, 1.713872), (0.975, 5, 2.570582), (0.025, 30, -2.042272)]
)
def test_t_quantiles_of_the_tables(p: float, df: int, t: float) -> None:
    assert t_quantile(p, df) == pytest.approx(t, abs=1e-6)
    assert t_below(t, df) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(("k", "n"), [(0, 20), (20, 20), (13, 20), (1934, 2000)])
def test_wilson_solves_its_equation(k: int, n: int) -> None:
    low, high = wilson(k, n)
    for edge in (low, high):
        if 0 < edge < 1:
            assert abs(k / n - edge) == pytest.approx(1.959964 * math.sqrt(edge * (1 - edge) / n), rel=1e-6)
    assert low <= k / n <= high
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson(3, 2)


def test_accuracy_reading() -> None:
    found = accuracy("accuracy.x", _side(3, 0, 20)[1])
    assert (found.value, found.spread, found.n, found.unit) == (0.85, wilson(17, 20), 20, "share")
    soft = accuracy("accuracy.x", [Prediction(str(i), "", True, s) for i, s in enumerate((0.2, 0.4, 0.9))])
    assert soft.spread is not None
    assert soft.spread[0] < soft.value < soft.spread[1]
