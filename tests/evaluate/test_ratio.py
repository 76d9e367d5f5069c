"""Ratios of timed figures and of perplexities."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from trimtab.core.errors import Anomaly
from trimtab.core.reading import Reading
from trimtab.evaluate import ratio
from trimtab.evaluate.ratio import Ratio, decision, more_repeats, of_readings, of_repeats, of_windows


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 6), (5, 5), (2, 3), (7, 3)])
def test_rank_bound_is_the_largest_below_five_percent(n: int, m: int) -> None:
    """Over all arrangements of n + m values, the statistic's distribution counted directly."""
    counts = [0] * (n * m + 1)
    for after in itertools.combinations(range(n + m), m):
        before = [i for i in range(n + m) if i not in after]
        counts[sum(x < y for x in before for y in after)] += 1
    total = math.comb(n + m, n)
    k = ratio._critical(n, m)
    assert sum(counts[:k]) <= 0.05 * total
    assert sum(counts[: k + 1]) > 0.05 * total


def test_rank_bounds_cover() -> None:
    rng, missed = random.Random(0), [0, 0]
    for _ in range(2000):
        before = [math.exp(rng.gauss(0, 0.3)) for _ in range(7)]
        after = [0.7 * math.exp(rng.gauss(0, 0.3)) for _ in range(7)]
        found = of_repeats(before, after)
        missed[0] += found.high < 0.7
        missed[1] += found.low > 0.7
    assert max(missed) / 2000 < 0.065
    assert min(missed) / 2000 > 0.025  # and are no wider than they have to be


def test_ratio_of_repeats() -> None:
    found = of_repeats([2.0, 2.2, 2.1, 2.0, 2.3], [1.0, 1.1, 1.05, 1.0, 1.2])
    assert found.value == pytest.approx(1.05 / 2.1)
    assert found.low < found.value < found.high < 0.7
    assert of_repeats([2.0], [1.0]) == Ratio(0.5, 0.0, math.inf)
    with pytest.raises(ValueError, match="no repeats"):
        of_repeats([], [1.0])


def test_ratio_of_readings() -> None:
    before, after = Reading("t", 2.0, "s", (1.8, 2.5), 9, "timed"), Reading("t", 1.0, "s", (0.9, 1.2), 9, "timed")
    assert of_readings(before, after) == Ratio(0.5, 0.9 / 2.5, 1.2 / 1.8)
    few = of_readings(before, Reading("t", 1.0, "s", None, 3, "timed"))
    assert (few.low, few.high) == (0.0, math.inf)
    assert decision(few, 0.7) == "inconclusive"
    counted = of_readings(Reading("bytes", 100.0, "bytes"), Reading("bytes", 40.0, "bytes"))
    assert counted == Ratio(0.4, 0.4, 0.4)
    with pytest.raises(Anomaly, match="above 0"):
        of_readings(before, Reading("t", 0.0, "s"))


def test_ratio_of_perplexities() -> None:
    torch.manual_seed(1)
    before = (3.7 + 0.4 * torch.randn(24, dtype=torch.float64)).tolist()
    gaps = 0.1 + 0.02 * torch.randn(24, dtype=torch.float64)
    found = of_windows(before, [x + float(gap) for x, gap in zip(before, gaps, strict=True)])
    half = 1.713872 * float(gaps.std()) / math.sqrt(24)
    assert math.log(found.value) == pytest.approx(float(gaps.mean()))
    assert math.log(found.high) == pytest.approx(float(gaps.mean()) + half, rel=1e-6)
    assert math.log(found.low) == pytest.approx(float(gaps.mean()) - half, rel=1e-6)
    with pytest.raises(Anomaly, match="24 and 23 windows"):
        of_windows(before, before[1:])


def test_decisions_and_what_is_still_needed() -> None:
    assert decision(Ratio(0.6, 0.5, 0.7), 0.7) == "met"
    assert decision(Ratio(0.8, 0.71, 0.9), 0.7) == "regression"
    open_ = Ratio(0.6, 0.45, 0.8)
    assert decision(open_, 0.7) == "inconclusive"
    more = more_repeats(open_, 0.7, 9)
    assert more is not None
    assert math.log(0.8 / 0.6) * math.sqrt(9 / (9 + more)) <= math.log(0.7 / 0.6)
    assert math.log(0.8 / 0.6) * math.sqrt(9 / (9 + more - 2)) > math.log(0.7 / 0.6)
    assert more_repeats(Ratio(0.7, 0.5, 0.9), 0.7, 9) is None
    assert more_repeats(Ratio(0.6, 0.0, math.inf), 0.7, 3) is None
    assert more_repeats(Ratio(0.6, 0.5, 0.7), 0.7, 9) == 0
