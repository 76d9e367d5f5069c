"""RAPL's counters in a folder of our own: packages, wrap-around, baselines, mirrors, and who may not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from trimtab.core.errors import BadInput
from trimtab.measure import rapl
from trimtab.measure.energy import energy, idle_watts, meter
from trimtab.measure.rapl import Rapl, domains, unreadable

RANGE = 262_143_328_850


class Machine:
    """A powercap folder whose counters run when they are told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 0.0

    def add(self, place: str, name: str, counter: int) -> None:
        path = self.folder / place
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "energy_uj").write_text(f"{counter}\n")
        (path / "max_energy_range_uj").write_text(f"{RANGE}\n")

    def use(self, place: str, joules: float) -> None:
        path = self.folder / place / "energy_uj"
        path.write_text(str((int(path.read_text()) + round(joules * 1e6)) % RANGE))

    def clock(self) -> float:
        return self.now


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    found = Machine(tmp_path)
    found.add("intel-rapl:0", "package-0", 5_000_000)
    found.add("intel-rapl:0:0", "dram", 0)
    found.add("intel-rapl:1", "package-1", RANGE - 2_000_000)
    found.add("intel-rapl:2", "psys", 77)
    found.add("intel-rapl-mmio:0", "package-0", 5_000_000)
    (tmp_path / "intel-rapl").mkdir()
    return found


def test_packages_are_summed_and_nothing_that_holds_them_or_lies_in_them(machine: Machine) -> None:
    assert [one.name for one in domains(machine.folder)] == ["package-0", "package-1"]
    with Rapl(machine.folder) as found:
        machine.use("intel-rapl:0", 3.5)
        machine.use("intel-rapl:0:0", 100)
        machine.use("intel-rapl:2", 100)
        machine.use("intel-rapl-mmio:0", 100)
        machine.use("intel-rapl:1", 1.25)
    assert found.joules == pytest.approx(4.75)
    assert (found.how, found.source) == ("timed", "measured: RAPL, 2 packages")


def test_a_counter_that_begins_anew_goes_on(machine: Machine) -> None:
    """package-1 is two joules before its end; and one that wraps twice is seen if it is looked at in between."""
    with Rapl(machine.folder) as found:
        machine.use("intel-rapl:1", 7.0)
    assert found.joules == pytest.approx(7.0)
    with Rapl(machine.folder) as found:
        for _ in range(3):
            machine.use("intel-rapl:1", 200_000)
            found.poll()
    assert found.joules == pytest.approx(600_000)


def test_it_looks_by_itself_and_begins_at_zero_when_entered_again(machine: Machine) -> None:
    looked: list[int] = []

    class Counted(Rapl):
        def poll(self) -> None:
            super().poll()
            looked.append(1)

    found = Counted(machine.folder, every=0.001)
    with found:
        while len(looked) < 3:
            pass
        machine.use("intel-rapl:0", 9.0)
    assert found.joules == pytest.approx(9.0)
    with found:
        machine.use("intel-rapl:0", 1.0)
    assert found.joules == pytest.approx(1.0)


def test_dies_that_show_one_counter_are_taken_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for die, counter in enumerate((4_000_000_000, 4_000_200_000, 9_000_000_000)):
        machine.add(f"intel-rapl:{die}", f"package-0-die-{die}", counter)
    machine.add("intel-rapl:3", "package-1-die-0", 4_000_000_000)
    assert [one.name for one in domains(tmp_path)] == ["package-0-die-0", "package-0-die-2", "package-1-die-0"]


def test_a_call_costs_what_its_counters_ran_less_what_runs_anyway(machine: Machine) -> None:
    """The machine uses 10 W by itself, and 40 J more in each call of half a second: 40 J a call, by 4 items 10 J."""

    def passes(seconds: float, joules: float = 0.0) -> None:
        machine.now += seconds
        machine.use("intel-rapl:0", 10 * seconds + joules)

    by = Rapl(machine.folder)
    assert idle_watts(by, 2.0, sleep=passes, clock=machine.clock) == pytest.approx(10.0)
    whole = energy(lambda: passes(0.5, 40.0), by, seconds=3.0, items=4, clock=machine.clock)
    assert whole.joules == pytest.approx((40 + 5) / 4)
    assert (whole.seconds, whole.how) == (pytest.approx(0.125), "timed")
    assert whole.watts == pytest.approx(90.0)


def test_the_baseline_is_taken_off_and_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def passes(seconds: float, joules: float = 0.0) -> None:
        machine.now += seconds
        machine.use("intel-rapl:0", 10 * seconds + joules)

    monkeypatch.setattr("trimtab.measure.energy.idle_watts", lambda by, seconds: 10.0)
    found = energy(lambda: passes(0.5, 40.0), Rapl(machine.folder), seconds=3.0, idle=2.0, clock=machine.clock)
    assert found.joules == pytest.approx(40.0)
    assert found.source == "measured: RAPL, 2 packages, less 10 W idle"


def test_what_may_not_be_read_is_named_with_its_remedy(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def refuse(self: Path, *args: object, **more: object) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "sudo chmod a+r" in unreadable(machine.folder)
    with pytest.raises(BadInput, match=r"RAPL: .*energy_uj is not readable by this user"):
        Rapl(machine.folder).__enter__()
    assert meter(folder=machine.folder).how == "estimated"
    assert "is not readable" in meter(folder=machine.folder).source


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no package counter"):
        Rapl(tmp_path / "nothing").__enter__()
    assert str(rapl.FOLDER) == "/sys/class/powercap"
