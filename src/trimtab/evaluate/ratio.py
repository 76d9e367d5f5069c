"""Ratios after / before with one-sided 95 % bounds: of timed figures, and of perplexities on the same windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.core.errors import Anomaly
from trimtab.core.reading import Reading
from trimtab.evaluate.paired import Decision
from trimtab.evaluate.student import t_quantile

ALPHA = 0.05


@dataclass(frozen=True)
class Ratio:
    """``value`` = after / before; ``low`` and ``high`` its one-sided 95 % bounds (each alone), NaN where unknown."""

    value: float
    low: float
    high: float


def of_readings(before: Reading, after: Reading) -> Ratio:
    """The ratio of two figures that were not measured in turn, from their two-sided 95 % intervals.

    Each end of an interval is wrong in at most 2.5 % of cases, so after.high / before.low is a one-sided bound that is
    wrong in at most 5 %, whatever the distributions. A drift of the machine between the two is not in it. Without an
    interval (fewer than six repeats) the bounds are infinite: nothing is decided. Counted figures bound themselves.
    Raises Anomaly where a figure is not positive.
    """
    (low0, high0), (low1, high1) = _interval(before), _interval(after)
    if min(before.value, after.value) <= 0:
        raise Anomaly(f"{before.name}: got {before.value} and {after.value}; a ratio needs figures above 0")
    return Ratio(after.value / before.value, max(0.0, low1) / high0, high1 / low0 if low0 > 0 else math.inf)


def _interval(reading: Reading) -> tuple[float, float]:
    if reading.spread is not None:
        return reading.spread
    return (reading.value, reading.value) if reading.how == "counted" else (0.0, math.inf)


def of_repeats(before: Sequence[float], after: Sequence[float], alpha: float = ALPHA) -> Ratio:
    """The ratio of medians of repeats that were taken in turn, with Hodges and Lehmann's bounds by ranks.

    Where after is distributed as r x before, the number of pairs with after_j / before_i < r is Mann and Whitney's U,
    whose distribution is known; the bounds are order statistics of all pairwise ratios, exact for any distribution.
    ``alpha``: the level of each bound. Ties make them wider. Raises ValueError without repeats. At 5 % fewer than 3 and
    3 repeats bound nothing.
    """
    if not before or not after or min(*before, *after) <= 0:
        raise ValueError("ratio: got no repeats, or a figure that is not above 0")
    pairs = sorted(y / x for x in before for y in after)
    k = _critical(len(before), len(after), alpha)
    low, high = (pairs[k - 1], pairs[-k]) if k else (0.0, math.inf)
    return Ratio(_median(after) / _median(before), low, high)


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _critical(n: int, m: int, alpha: float = ALPHA) -> int:
    """The largest k with P(U < k) <= ``alpha``; 0 where even the smallest U is likelier than that."""
    ways = [1] + [0] * (n * m)  # how many arrangements give each U: the Gaussian binomial (n + m choose n)
    for i in range(1, m + 1):
        for u in range(n + i, n * m + 1)[::-1]:
            ways[u] -= ways[u - n - i]
        for u in range(i, n * m + 1):
            ways[u] += ways[u - i]
    total, below = math.comb(n + m, n), 0
    for k, count in enumerate(ways):
        below += count
        if below > alpha * total:
            return k
    return 0


def of_windows(before: Sequence[float], after: Sequence[float]) -> Ratio:
    """The ratio of perplexities exp(mean nll) from mean losses of the same windows, bounded by Student's t.

    log ratio = mean of the windows' differences; bounds at t_{0.95, n-1} x their standard error. Raises Anomaly where
    the windows do not match.
    """
    if len(before) != len(after) or len(before) < 2:
        raise Anomaly(f"perplexity: got {len(before)} and {len(after)} windows; a ratio needs the same ones, 2 or more")
    differences = [y - x for x, y in zip(before, after, strict=True)]
    n = len(differences)
    mean = math.fsum(differences) / n
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in differences) / (n - 1) / n)
    reach = t_quantile(1 - ALPHA, n - 1) * error
    return Ratio(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def decision(found: Ratio, limit: float) -> Decision:
    """Met when the upper bound is at most ``limit``, regression when the lower one is above it."""
    return "met" if found.high <= limit else "regression" if found.low > limit else "inconclusive"


def more_repeats(found: Ratio, limit: float, n: int) -> int | None:
    """How many further repeats or windows would decide if bounds shrink as 1 / sqrt(n); None if that is not to be
    expected (the figure is on the limit, or has no bounds)."""
    if decision(found, limit) != "inconclusive":
        return 0
    gap = abs(math.log(limit / found.value))
    reach = (
        math.log(found.high / found.value) if found.value <= limit else math.log(found.value / max(found.low, 1e-300))
    )
    if gap == 0 or not math.isfinite(reach) or reach > 100:
        return None
    return max(1, math.ceil(n * (reach / gap) ** 2) - n)
