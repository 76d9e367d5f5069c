"""Joules of a call, and who says so: RAPL's counters where they can be read, else codecarbon's offline tracker, else a
model of the CPU's design power. The figure carries its source; only what RAPL counted is called measured.

    E = (E_meter - P_idle t) / items

over a stretch of at least ``seconds``, in which the call is made over and over: counters are renewed about a thousand
times a second, codecarbon needs a twentieth of one, and one short call would be lost in either. P_idle is what the
meter says while the program sleeps, where an idle time is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from trimtab.core.reading import How, Reading
from trimtab.measure.carbon import Carbon, installed
from trimtab.measure.latency import Clock, reading
from trimtab.measure.power import CpuTime
from trimtab.measure.rapl import FOLDER, Rapl, unreadable


class Meter(Protocol):
    """What counts joules between its beginning and its end: ``Rapl``, ``Carbon``, ``Sampled``, ``CpuTime``."""

    @property
    def how(self) -> How: ...
    @property
    def source(self) -> str: ...
    @property
    def joules(self) -> float: ...
    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Energy:
    """``joules`` of one item and the ``seconds`` it took; ``source`` begins with measured, sampled or modelled."""

    joules: float
    seconds: float
    source: str
    how: How

    @property
    def watts(self) -> float:
        """The mean power."""
        return self.joules / self.seconds if self.seconds else 0.0


def meter(tdp: float | None = None, folder: Path = FOLDER) -> Meter:
    """The best that this machine has; ``tdp``: the CPU's design power in watts, where there is no counter."""
    reason = unreadable(folder)
    if not reason:
        return Rapl(folder)
    return Carbon(tdp, reason) if installed() else CpuTime(tdp, reason)


def energy(
    fn: Callable[[], object],
    by: Meter,
    *,
    items: int = 1,
    seconds: float = 1.0,
    idle: float = 0.0,
    clock: Clock = time.perf_counter,
) -> Energy:
    """Of one of the ``items`` that a call of ``fn`` makes, after one call that warms up; ``idle``: seconds to sleep
    beforehand for the baseline. Raises ValueError for no items, and as the meter does."""
    if items < 1:
        raise ValueError(f"items: got {items}; accepted: at least 1")
    fn()
    base = idle_watts(by, idle) if idle else 0.0
    calls, begin = 0, clock()
    with by:
        while not calls or clock() - begin < seconds:
            fn()
            calls += 1
        passed = clock() - begin
    source = by.source + (f", less {base:.3g} W idle" if idle else "")
    used = max(0.0, by.joules - base * passed)
    return Energy(used / (calls * items), passed / (calls * items), source, by.how)


def idle_watts(
    by: Meter, seconds: float, sleep: Callable[[float], None] = time.sleep, clock: Clock = time.perf_counter
) -> float:
    """The mean power that the meter says while this program sleeps."""
    begin = clock()
    with by:
        sleep(seconds)
        passed = clock() - begin
    return by.joules / passed


def of_work(
    flops: float, moved: float, seconds: float, *, per_flop: float, per_byte: float, idle: float = 0.0
) -> Energy:
    """What a model says of ``flops`` operations and ``moved`` bytes, at joules for each, and ``idle`` watts."""
    said = f"modelled: {per_flop:g} J an operation, {per_byte:g} J a byte" + (f", {idle:g} W idle" if idle else "")
    return Energy(flops * per_flop + moved * per_byte + idle * seconds, seconds, said, "estimated")


def to_readings(name: str, found: Sequence[Energy]) -> list[Reading]:
    """``energy.<name>`` in joules and ``power.<name>`` in watts: medians of the stretches, with their interval where
    there are at least six. Raises ValueError without any, or where some were measured and some not."""
    if len({one.how for one in found}) != 1:
        raise ValueError("energy: accepted: stretches of one meter, at least one")
    return [
        replace(reading(f"energy.{name}", [one.joules for one in found], "J"), how=found[0].how),
        replace(reading(f"power.{name}", [one.watts for one in found], "W"), how=found[0].how),
    ]
