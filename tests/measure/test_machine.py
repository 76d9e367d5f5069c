"""Facts about the machine that runs the tests; no figure is asserted, only what must hold on any machine."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import psutil
import pytest
import torch

from trimtab.measure import machine, memory, probes


def test_facts_are_this_machines() -> None:
    found = machine.facts()
    assert found.versions["torch"] == torch.__version__
    assert found.threads == torch.get_num_threads()
    assert found.memory == psutil.virtual_memory().total
    assert 1 <= found.logical <= (psutil.cpu_count() or 1)
    assert found.processor
    assert set(found.flags) <= set(machine.FLAGS)
    assert found.bandwidth == {}
    assert json.loads(json.dumps(found.row()))["compute"] in ("bfloat16", "float32")


def test_flags_agree_with_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    capability = torch.backends.cpu.get_cpu_capability()
    flags = machine.instruction_sets()
    assert ("AVX2" in flags) == (capability in ("AVX2", "AVX512"))
    monkeypatch.setattr(machine, "_cpuinfo", dict)  # a system without /proc: torch's word is taken
    assert set(machine.instruction_sets()) >= {"AVX2"} & set(flags)
    monkeypatch.setattr(machine, "_torch_flags", dict)
    monkeypatch.setattr(machine, "_sysctl", lambda name: "1" if name == "hw.optional.neon" else "")
    assert machine.instruction_sets() == ("NEON",)


def test_sysctl_is_for_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert machine._sysctl("machdep.cpu.brand_string") == ""


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", ("torch", "no-such-library-at-all"))
    assert machine.versions()["no-such-library-at-all"] == "not installed"


def test_doctor_measures_what_facts_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SIZES", (1 << 16, 1 << 18))
    monkeypatch.setattr(probes, "BUDGET", 0.01)
    found = machine.doctor()
    assert list(found.bandwidth) in ([1 << 16, 1 << 18], [1 << 16])
    assert set(found.arithmetic) == {"float32", "bfloat16", "int8"}
    assert min(*found.bandwidth.values(), *found.arithmetic.values()) > 0
    assert json.loads(json.dumps(found.row()))["bandwidth"].keys() <= {"65536", "262144"}


def test_best_takes_the_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 4.0, 4.0, 5.0, 6.0, 9.0, 99.0, 99.0])
    monkeypatch.setattr(probes.time, "perf_counter", lambda: next(ticks))
    assert probes.best(lambda: None, 10.0) == 1.0


def test_peak_is_at_least_what_is_there() -> None:
    assert memory.peak() >= 0.9 * memory.resident()
    assert memory.resident() == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_watch_sees_an_allocation_come_and_go() -> None:
    with memory.Watch(every=0.001) as watch:
        before = watch.peak
        held = torch.ones(40_000_000)  # 160 MB, touched
        while watch.peak < before + 100_000_000:
            held.add_(1)
        del held
    assert watch.peak >= before + 100_000_000
    assert watch.reading().unit == "bytes"
    assert watch.reading().value == float(watch.peak)


def test_flags_are_read_from_proc_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "processor : 0\nmodel name : A chip\nflags : fpu avx2 amx_tile\n\nprocessor : 1\nmodel name : B\n"
    monkeypatch.setattr(machine, "_cpuinfo", machine._cpuinfo)
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "Path", lambda name: tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "_torch_flags", dict)
    assert machine.processor() == "A chip"
    assert machine.instruction_sets() == ("AVX2", "AMX")
