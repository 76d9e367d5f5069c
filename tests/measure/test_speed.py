"""Tails, throughput and pairs; the clock is ours, so that nothing here depends on the machine."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from trimtab.core.reading import Reading
from trimtab.measure.latency import repeats_of
from trimtab.measure.speed import Versus, paired, stats, tail, throughput, versus


class Stub:
    """Sleeps ten milliseconds on a clock of its own, which is late by up to 2 %, and drifts."""

    def __init__(self, seed: int, seconds: float = 0.01, noise: float = 0.02, drift: float = 0.0) -> None:
        self.rng, self.now = random.Random(seed), 0.0
        self.seconds, self.noise, self.drift = seconds, noise, drift

    def clock(self) -> float:
        return self.now

    def sleep(self, by: float = 1.0) -> None:
        slow = 1 + self.drift * self.now
        self.now += self.seconds * by * slow * (1 + self.noise * self.rng.random())


def test_a_stub_that_sleeps_ten_milliseconds_is_reported_within_five_percent() -> None:
    stub = Stub(0)
    median, p95, rate = stats("decode.b4", repeats_of(stub.sleep, 30, clock=stub.clock), items=4)
    assert median.name == "latency.decode.b4"
    assert median.value == pytest.approx(0.01, rel=0.05)
    assert (p95.name, p95.how) == ("latency.decode.b4.p95", "timed")
    assert median.value < p95.value <= 0.01 * 1.02
    assert rate.value == pytest.approx(4 / median.value)
    assert rate.unit == "items/s"


def test_throughput_turns_the_interval_over() -> None:
    latency = Reading("latency.x", 0.5, "s", (0.4, 0.8), 9, "timed")
    assert throughput("throughput.x", latency, 8) == Reading("throughput.x", 16.0, "items/s", (10.0, 20.0), 9, "timed")
    assert throughput("t", Reading("l", 2.0, "s")).spread is None


def test_a_tail_is_numpys_percentile_and_its_interval_covers_as_it_says() -> None:
    values = [random.Random(7).expovariate(1) for _ in range(200)]
    assert tail("x", values).value == pytest.approx(np.quantile(values, 0.95))
    assert tail("x", values, 0.99).name == "x.p99"
    assert tail("x", values[:5]).spread is None
    rng, inside, truth = random.Random(1), 0, -math.log(0.05)
    for _ in range(80):
        spread = tail("x", [rng.expovariate(1) for _ in range(120)]).spread
        assert spread is not None
        inside += spread[0] <= truth <= spread[1]
    assert 0.8 <= inside / 80 <= 1.0  # the percentile bootstrap of a tail is a little narrow


@pytest.mark.parametrize("drift", [0.0, 2.0])
@pytest.mark.parametrize("noise", [0.02, 1.0])
def test_a_against_a_is_no_difference_in_95_of_100_trials(noise: float, drift: float) -> None:
    """Also on a machine that gets slower all the time, by a half within the trial."""
    same = 0
    for seed in range(600):
        stub = Stub(seed, noise=noise, drift=drift)
        same += versus(stub.sleep, stub.sleep, clock=stub.clock).verdict == "no difference"
    assert same / 600 >= 0.94  # 95 % and what 600 trials may be off


def test_twenty_percent_are_seen_either_way_and_the_floor_is_below_them() -> None:
    for seed in range(50):
        stub = Stub(seed, noise=0.1, drift=1.0)
        found = versus(stub.sleep, lambda: stub.sleep(1.2), clock=stub.clock)  # noqa: B023
        assert found.verdict == "slower"
        assert found.low <= 1.2 <= found.high or abs(found.ratio / 1.2 - 1) < 0.1
        assert 0 < found.floor < 0.2
        assert versus(lambda: stub.sleep(1.2), stub.sleep, clock=stub.clock).verdict == "faster"  # noqa: B023


def test_who_comes_first_changes_in_turn_after_a_warm_up() -> None:
    order: list[str] = []
    now = [0.0]

    def work(name: str) -> None:
        order.append(name)
        now[0] += 1.0

    found = versus(lambda: work("a"), lambda: work("b"), pairs=6, warmup=1, clock=lambda: now[0])
    assert "".join(order) == "ab" + "abba" * 3
    assert found == Versus(1.0, 1.0, 1.0, 6)
    assert (found.verdict, found.floor) == ("no difference", 0.0)


def test_pairs_are_paired() -> None:
    a, b = [1.0, 10.0, 100.0, 2.0, 20.0, 200.0], [3.0, 20.0, 250.0, 4.0, 50.0, 400.0]
    assert paired(a, b) == Versus(2.25, 2.0, 3.0, 6)
    assert paired(b, a).verdict == "faster"
    assert paired([*a, 10.0], [*b, 11.0]) == Versus(2.0, 1.1, 3.0, 7)
    for wrong in (([1.0] * 5, [1.0] * 5), ([1.0] * 6, [1.0] * 7), ([0.0] * 6, [1.0] * 6)):
        with pytest.raises(ValueError, match="versus"):
            paired(*wrong)
