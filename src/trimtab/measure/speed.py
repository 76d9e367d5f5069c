"""How fast, how much at once, how evenly, and whether one of two is faster: what a median alone does not say.

    throughput = items / latency
    p95        = what 95 % of the repeats do not exceed, with a bootstrap interval (Efron 1979)
    A against B: repeats in pairs, A first in one and B first in the next; the median of b_i / a_i with its interval

A pair is taken within a moment, so a machine that drifts slows both, and who comes first is balanced out. The number of
pairs in which b / a lies below its median is binomial whatever the distribution, so the interval is exact: of two equal
sides 95 % of comparisons at least say no difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from trimtab.core.reading import Reading
from trimtab.evaluate.bootstrap import interval, percentile
from trimtab.measure.latency import Clock, median_interval, reading, repeats_of

FEWEST = 6  # pairs; fewer have no interval at 95 %


def tail(name: str, values: Sequence[float], share: float = 0.95, unit: str = "s") -> Reading:
    """``name.p95``: the percentile of repeats, with its interval where there are at least six. Below twenty repeats it
    lies between the last two, and its interval cannot reach beyond the longest seen."""
    rows = torch.tensor([list(values)], dtype=torch.float64)
    found = float(percentile(share)(rows))
    spread = interval(rows[0], percentile(share)) if len(values) >= FEWEST else None
    return Reading(f"{name}.p{100 * share:g}", found, unit, spread, len(values), "timed")


def throughput(name: str, latency: Reading, items: int = 1, unit: str = "items/s") -> Reading:
    """``items`` (rows of a batch, tokens) over a latency; its interval is the latency's, turned over."""
    spread = None if latency.spread is None else (items / latency.spread[1], items / latency.spread[0])
    return Reading(name, items / latency.value, unit, spread, latency.n, latency.how)


def stats(name: str, values: Sequence[float], items: int = 1) -> list[Reading]:
    """``latency.<name>``, ``latency.<name>.p95`` and ``throughput.<name>`` of one call's repeats."""
    median = reading(f"latency.{name}", values)
    return [median, tail(f"latency.{name}", values), throughput(f"throughput.{name}", median, items)]


@dataclass(frozen=True)
class Versus:
    """``ratio`` = b / a, the median of ``n`` pairs, with its 95 % interval (``low``, ``high``)."""

    ratio: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> Literal["slower", "faster", "no difference"]:
        """What b is, beside a."""
        return "slower" if self.low > 1 else "faster" if self.high < 1 else "no difference"

    @property
    def floor(self) -> float:
        """The noise floor: a change by less than this share would not have been seen."""
        return max(self.high / self.ratio, self.ratio / self.low) - 1


def paired(a: Sequence[float], b: Sequence[float]) -> Versus:
    """The comparison of repeats taken in turn. Raises ValueError for fewer than six pairs, or uneven ones."""
    if len(a) != len(b) or len(a) < FEWEST or min(*a, *b) <= 0:
        raise ValueError(f"versus: got {len(a)} and {len(b)} repeats; accepted: as many of each, {FEWEST} or more, > 0")
    ratios = sorted(after / before for before, after in zip(a, b, strict=True))
    found = median_interval(ratios)
    assert found is not None  # six are enough
    half = len(ratios) // 2
    middle = ratios[half] if len(ratios) % 2 else (ratios[half - 1] + ratios[half]) / 2
    return Versus(middle, *found, len(ratios))


def versus(
    a: Callable[[], object],
    b: Callable[[], object],
    pairs: int = 15,
    warmup: int = 2,
    clock: Clock = time.perf_counter,
) -> Versus:
    """``b`` beside ``a``, timed in turn. Raises ValueError as ``paired`` does."""
    for _ in range(warmup):
        a()
        b()
    first: list[float] = []
    second: list[float] = []
    for i in range(pairs):
        order = ((a, first), (b, second)) if i % 2 == 0 else ((b, second), (a, first))
        for fn, found in order:
            found += repeats_of(fn, 1, 0, clock=clock)
    return paired(first, second)
