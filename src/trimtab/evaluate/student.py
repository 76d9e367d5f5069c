"""Quantiles of the normal and of Student's t distribution, in double precision, from the standard library alone."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

NORMAL = NormalDist()
STEPS = 2000


def t_below(x: float, df: int) -> float:
    """P(T <= x) for T with ``df`` degrees of freedom; by t = sqrt(df) tan(a) the density is c cos(a)**(df - 1) on a
    finite interval, integrated by Simpson's rule (error below 1e-10)."""
    if df < 1:
        raise ValueError(f"df: got {df}; accepted: 1 or more")
    c = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    end = math.atan(x / math.sqrt(df))
    h = end / STEPS
    inner = sum((4 if i % 2 else 2) * math.cos(i * h) ** (df - 1) for i in range(1, STEPS))
    return 0.5 + c * h / 3 * (1 + inner + math.cos(end) ** (df - 1))


@cache
def t_quantile(p: float, df: int) -> float:
    """x with P(T <= x) = p, to 1e-9, for p in (0, 1). Raises ValueError outside."""
    if not 0 < p < 1:
        raise ValueError(f"p: got {p}; accepted: between 0 and 1")
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_below(high, df) < p:
        high *= 2
    while high - low > 1e-10 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if t_below(middle, df) < p else (low, middle)
    return (low + high) / 2
