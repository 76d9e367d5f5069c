"""Bootstrap intervals: against every resample of a few values, and as often right as they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from trimtab.evaluate.bootstrap import interval, mean, percentile


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_it_is_the_middle_of_all_resamples(level: float) -> None:
    values = torch.tensor([0.0, 1.0, 10.0, 100.0], dtype=torch.float64)
    every = [float(np.mean(draw)) for draw in itertools.product(values.tolist(), repeat=4)]
    low, high = interval(values, level=level, resamples=200_000)
    assert low == pytest.approx(np.quantile(every, (1 - level) / 2), abs=0.3)
    assert high == pytest.approx(np.quantile(every, (1 + level) / 2), abs=0.3)


def test_a_percentile_is_numpys() -> None:
    rows = torch.randn(3, 41, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(percentile(0.05)(rows), np.quantile(rows.numpy(), 0.05, axis=1))


def test_intervals_of_a_mean_cover_it_as_often_as_they_say() -> None:
    generator, missed = torch.Generator().manual_seed(1), 0
    for seed in range(400):
        low, high = interval(torch.rand(60, generator=generator), mean, resamples=400, seed=seed)
        missed += not low < 0.5 < high
    assert 0.02 < missed / 400 < 0.09


def test_the_same_seed_says_the_same() -> None:
    values = torch.arange(30.0)
    assert interval(values) == interval(values) != interval(values, seed=1)
    with pytest.raises(ValueError, match="no values"):
        interval(values[:0])
