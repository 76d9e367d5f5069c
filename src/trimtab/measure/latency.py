"""Seconds of a call: repeats after a warm-up, their median and how sure it is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from trimtab.core.reading import Reading

Clock = Callable[[], float]


def repeats_of(
    fn: Callable[[], object],
    repeats: int = 9,
    warmup: int = 2,
    *,
    setup: Callable[[], object] | None = None,
    clock: Clock = time.perf_counter,
) -> list[float]:
    """Seconds of ``repeats`` calls of ``fn``, after ``warmup`` that are not counted; ``setup`` runs before each call,
    off the clock. Raises ValueError for no repeats."""
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats, warmup: got {repeats}, {warmup}; accepted: at least 1 and at least 0")
    found = []
    for i in range(warmup + repeats):
        if setup is not None:
            setup()
        begin = clock()
        fn()
        if i >= warmup:
            found.append(clock() - begin)
    return found


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The narrowest pair of order statistics (k-th smallest, k-th largest) that covers the median with ``level``.

    The number of values below the median is binomial (n, 1/2), whatever the distribution; P = 1 - 2 P(X < k). None for
    fewer than six values at 95 %, where even the extremes do not cover it so surely.
    """
    ordered, n = sorted(values), len(values)
    best, below = 0, 0
    for k in range(1, n // 2 + 1):
        below += math.comb(n, k - 1)
        if 1 - 2 * below / 2**n < level:
            break
        best = k
    return (ordered[best - 1], ordered[n - best]) if best else None


def reading(name: str, values: Sequence[float], unit: str = "s") -> Reading:
    """The median of repeats with its 95 % interval where there are at least six."""
    ordered, half = sorted(values), len(values) // 2
    median = ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return Reading(name, median, unit, median_interval(values), len(values), "timed")


def timed(
    fn: Callable[[], object],
    repeats: int = 9,
    warmup: int = 2,
    *,
    name: str = "latency",
    per: int = 1,
    setup: Callable[[], object] | None = None,
    clock: Clock = time.perf_counter,
) -> Reading:
    """``reading`` of ``repeats_of`` calls, each divided by the ``per`` units of work (tokens, say) that it does."""
    found = repeats_of(fn, repeats, warmup, setup=setup, clock=clock)
    return reading(name, [one / per for one in found])
