"""Intervals of statistics that have no formula, by resampling (Efron 1979): the percentile bootstrap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Statistic = Callable[[Float[Tensor, "resamples n"]], Float[Tensor, " resamples"]]
"""Of each row."""


def mean(rows: Float[Tensor, "resamples n"]) -> Float[Tensor, " resamples"]:
    return rows.mean(1)


def percentile(share: float) -> Statistic:
    """The number of a row below which ``share`` of it lies, interpolated between neighbours."""
    return lambda rows: rows.quantile(share, dim=1)


def interval(
    values: Float[Tensor, " n"],
    statistic: Statistic = mean,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The middle ``level`` of the statistic over ``resamples`` draws of n values with replacement, by ``seed``.

    For a difference in pairs give the pairs' differences. Raises ValueError without values.
    """
    if not len(values):
        raise ValueError("bootstrap: no values")
    draw = torch.randint(len(values), (resamples, len(values)), generator=torch.Generator().manual_seed(seed))
    found = statistic(values[draw])
    low, high = found.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=found.dtype)).tolist()
    return low, high
