"""Energy from power: samples of a sensor integrated over time, and models where there is no sensor.

    E = integral of P dt  ~  sum of (P_i + P_{i+1}) / 2 x (t_{i+1} - t_i)                       samples (trapezoids)
    E = CPU seconds / cores x TDP                                                               a CPU's design power
    E = F e_f + B e_b + P_idle t                                 F operations, B bytes moved, joules for one of each

A design power is what a CPU's cooler is built for, not what it uses: the second is good for comparing two programs on
one machine, and may be wrong by a factor of two or three in joules. Where the TDP is not given, ``CORE_WATTS`` for each
core stands for it, which is the order of a server's (360 W for 96 cores, 350 W for 56).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType

import psutil

from trimtab.core.reading import How
from trimtab.measure.every import every as often

CORE_WATTS = 5.0


def integrate(times: Sequence[float], watts: Sequence[float]) -> float:
    """Joules of power sampled at ``times``, seconds in order. Raises ValueError for fewer than two samples, times that
    run back, or as many times as there are no watts."""
    if len(times) != len(watts) or len(times) < 2:
        raise ValueError(f"power: got {len(times)} times and {len(watts)} samples; accepted: two or more of each")
    steps = [after - before for before, after in itertools.pairwise(times)]
    if min(steps) < 0:
        raise ValueError("power: times run back; accepted: in order")
    return sum(step * (watts[i] + watts[i + 1]) / 2 for i, step in enumerate(steps))


class Sampled:
    """``with Sampled(power) as meter: ...`` then ``meter.joules``: ``power()`` in watts, asked every ``every`` seconds,
    and at both ends. ``source``: whose word that is."""

    how: How = "estimated"

    def __init__(
        self,
        power: Callable[[], float],
        source: str,
        every: float = 0.05,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.power, self.every, self.clock = power, every, clock
        self.source = f"sampled: {source}"
        self.times: list[float] = []
        self.watts: list[float] = []
        self._watching = ExitStack()

    def __enter__(self) -> Sampled:
        self.times, self.watts = [], []
        self._ask()
        self._watching.enter_context(often(self.every, self._ask))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.close()

    @property
    def joules(self) -> float:
        """Of all samples; raises ValueError before the end."""
        return integrate(self.times, self.watts)

    def _ask(self) -> None:
        self.watts.append(self.power())
        self.times.append(self.clock())


class CpuTime:
    """``with CpuTime() as meter: ...`` then ``meter.joules``: this process's CPU seconds at a core's share of ``tdp``
    watts. ``because``: why no counter is read, for the source."""

    how: How = "estimated"

    def __init__(self, tdp: float | None = None, because: str = "", seconds: Callable[[], float] | None = None) -> None:
        cores = psutil.cpu_count(logical=False) or 1
        self.core_watts = CORE_WATTS if tdp is None else tdp / cores
        given = f"{CORE_WATTS:g} W for each core assumed" if tdp is None else f"TDP {tdp:g} W over {cores} cores"
        self.source = f"modelled: CPU time x {given}" + (because and f" ({because})")
        self.seconds = seconds or cpu_seconds
        self.joules = 0.0
        self._begin = 0.0

    def __enter__(self) -> CpuTime:
        self.joules, self._begin = 0.0, self.seconds()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.joules = (self.seconds() - self._begin) * self.core_watts


def cpu_seconds() -> float:
    """What all threads of this process have computed so far."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)
