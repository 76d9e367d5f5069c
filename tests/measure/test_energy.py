"""Power over time, models without a sensor, and the readings that say which it was."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import psutil
import pytest

from trimtab.measure import energy as room
from trimtab.measure.energy import Energy, energy, meter, of_work, to_readings
from trimtab.measure.power import CORE_WATTS, CpuTime, Sampled, cpu_seconds, integrate
from trimtab.measure.rapl import Rapl

TRACES = {
    "constant": (lambda t: 50.0, lambda a, b: 50.0 * (b - a)),
    "ramp": (lambda t: 20 + 7 * t, lambda a, b: 20 * (b - a) + 3.5 * (b * b - a * a)),
    "wave": (lambda t: 100 + 60 * math.sin(t), lambda a, b: 100 * (b - a) + 60 * (math.cos(a) - math.cos(b))),
    "cooling": (lambda t: 300 * math.exp(-t / 4), lambda a, b: 1200 * (math.exp(-a / 4) - math.exp(-b / 4))),
    "pulses": (lambda t: 200.0 if t % 1 < 0.5 else 40.0, lambda a, b: 120.0 * (b - a)),
}


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_integrates_to_its_closed_form_within_one_percent(name: str) -> None:
    power, whole = TRACES[name]
    times = [i * 0.01 + 0.003 * math.sin(i) for i in range(1001)]  # not evenly sampled
    found = integrate(times, [power(t) for t in times])
    assert found == pytest.approx(whole(times[0], times[-1]), rel=0.01)


@pytest.mark.parametrize(("times", "watts"), [([0.0], [1.0]), ([0.0, 1.0], [1.0]), ([0.0, 2.0, 1.0], [1.0] * 3)])
def test_what_is_no_trace_is_refused(times: list[float], watts: list[float]) -> None:
    with pytest.raises(ValueError, match="power:"):
        integrate(times, watts)


def test_a_sensor_is_asked_at_both_ends_and_between() -> None:
    ticks = itertools.count()
    by = Sampled(lambda: 30.0, "a sensor", every=0.001, clock=lambda: float(next(ticks)))
    with by:
        while len(by.times) < 4:
            pass
    assert len(by.times) == len(by.watts) >= 5
    assert by.joules == pytest.approx(30.0 * (by.times[-1] - by.times[0]))
    assert (by.how, by.source) == ("estimated", "sampled: a sensor")


def test_cpu_time_is_charged_at_a_cores_share_of_the_design_power() -> None:
    cores = psutil.cpu_count(logical=False) or 1
    busy = iter([10.0, 13.0, 20.0, 22.0])
    by = CpuTime(tdp=60.0 * cores, seconds=lambda: next(busy))
    with by:
        pass
    assert by.joules == pytest.approx(3.0 * 60)
    with by:
        pass
    assert by.joules == pytest.approx(2.0 * 60)
    assert by.source.startswith("modelled: CPU time x TDP")
    assert CpuTime().core_watts == CORE_WATTS
    assert f"{CORE_WATTS:g} W for each core assumed" in CpuTime().source
    before = cpu_seconds()
    sum(range(200_000))
    assert cpu_seconds() >= before > 0


def test_joules_of_operations_and_bytes_are_added() -> None:
    found = of_work(2e9, 1e8, 0.5, per_flop=1e-11, per_byte=2e-10, idle=4.0)
    assert found.joules == pytest.approx(0.02 + 0.02 + 2.0)
    assert found.source == "modelled: 1e-11 J an operation, 2e-10 J a byte, 4 W idle"
    assert found.how == "estimated"


def test_without_counters_nothing_is_called_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "installed", lambda: "")
    by = meter(tdp=40.0, folder=tmp_path)
    assert isinstance(by, CpuTime)
    found = energy(lambda: sum(range(1000)), by, seconds=0.0)
    assert found.source.startswith("modelled: ")
    assert "has no package counter" in found.source
    assert {one.how for one in to_readings("x", [found])} == {"estimated"}
    monkeypatch.setattr(room, "installed", lambda: "3.3.2")
    by = meter(tdp=40.0, folder=tmp_path)
    assert by.how == "estimated"
    assert by.source.startswith("modelled: codecarbon")
    assert "TDP 40 W" in by.source
    (tmp_path / "intel-rapl:0").mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "9")):
        (tmp_path / "intel-rapl:0" / name).write_text(text)
    assert isinstance(meter(folder=tmp_path), Rapl)


def test_one_call_at_least_and_one_that_warms_up() -> None:
    calls: list[int] = []
    used = iter([0.0, 6.0])
    by = CpuTime(tdp=float(psutil.cpu_count(logical=False) or 1), seconds=lambda: next(used))
    found = energy(lambda: calls.append(1), by, seconds=0.0, items=3)
    assert len(calls) == 2
    assert found.joules == pytest.approx(2.0)
    with pytest.raises(ValueError, match="items: got 0"):
        energy(lambda: None, by, items=0)


def test_readings_have_the_median_and_say_how() -> None:
    stretches = [Energy(float(j), 2.0, "measured: RAPL, 1 package", "timed") for j in (4, 8, 6, 2, 10, 12, 14)]
    joules, watts = to_readings("prefill.b1", stretches)
    assert (joules.name, joules.value, joules.unit, joules.n, joules.how) == ("energy.prefill.b1", 8.0, "J", 7, "timed")
    assert joules.spread == (2.0, 14.0)
    assert (watts.name, watts.value, watts.unit) == ("power.prefill.b1", 4.0, "W")
    assert Energy(1.0, 0.0, "", "timed").watts == 0.0
    with pytest.raises(ValueError, match="stretches of one meter"):
        to_readings("x", [stretches[0], Energy(1.0, 1.0, "modelled: x", "estimated")])
