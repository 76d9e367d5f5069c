"""Medians and their intervals; the clock is ours, so that nothing here depends on the machine."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from trimtab.measure.latency import median_interval, reading, repeats_of, timed


class Clock:
    """Stands still but when it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_the_call_is_on_the_clock() -> None:
    clock, calls = Clock(), []

    def work() -> None:
        calls.append("work")
        clock.now += len(calls)

    def setup() -> None:
        calls.append("setup")
        clock.now += 1000.0

    found = repeats_of(work, 3, 2, setup=setup, clock=clock)
    assert calls == ["setup", "work"] * 5
    assert found == [6.0, 8.0, 10.0]
    with pytest.raises(ValueError, match="got 0, 2"):
        repeats_of(work, 0, 2)


@pytest.mark.parametrize("n", range(1, 25))
def test_interval_is_the_narrowest_that_covers(n: int) -> None:
    """Coverage of (k-th smallest, k-th largest): the median lies between unless fewer than k values are on a side."""
    values = random.Random(n).sample(range(100), n)
    found = median_interval([float(one) for one in values])
    covers = {k: 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, n // 2 + 1)}
    fitting = [k for k, cover in covers.items() if cover >= 0.95]
    if not fitting:
        assert found is None
        assert n < 6
        return
    assert found == (sorted(values)[max(fitting) - 1], sorted(values)[n - max(fitting)])


def test_interval_covers_in_simulation() -> None:
    rng = random.Random(0)
    inside = 0
    for _ in range(2000):
        low, high = median_interval([rng.expovariate(1) for _ in range(9)]) or (0, 0)
        inside += low <= math.log(2) <= high
    assert 0.945 <= inside / 2000 <= 0.985


def test_readings() -> None:
    assert reading("t", [3.0, 1.0, 2.0]).value == 2.0
    assert reading("t", [4.0, 1.0, 2.0, 3.0]).value == 2.5
    assert reading("t", [3.0, 1.0, 2.0]).spread is None
    clock, ticks = Clock(), itertools.count(1)

    def work() -> None:
        clock.now += next(ticks)

    found = timed(work, 7, 1, name="latency.decode.b1", per=2, clock=clock)
    assert (found.name, found.value, found.spread, found.n) == ("latency.decode.b1", 2.5, (1.0, 4.0), 7)
    assert (found.unit, found.how) == ("s", "timed")
