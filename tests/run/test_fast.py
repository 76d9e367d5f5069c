"""Rounded inputs and mixed bits in a whole run: what runs on integers is said, what was given is stored, it reloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SMALL

from trimtab.core.acts import DynamicInt8
from trimtab.core.joins import leaves
from trimtab.core.linear import Linear
from trimtab.core.staticacts import StaticInt8
from trimtab.core.weight import Quantized, bits
from trimtab.load.artifact import read
from trimtab.run.start import resolve, resume, run
from trimtab.runtime import int8

STEPS = ("steps=[{mixed: {bits: 4.5, method: rtn, targets: [language]}}, "
         "{smoothquant: {targets: [projector]}}, {w8a8_static: {inputs: kl, targets: [vision]}}, "
         "{rtn: {bits: 8, group_size: -1, symmetric: true, targets: [embedding, head]}}]")  # fmt: skip


@pytest.fixture(scope="module")
def finished(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    threads = torch.get_num_threads()
    settings = [*SMALL, f"model={model_folder}", STEPS, "evaluate.after_step=0", "evaluate.robust={limit: 0}"]
    _, recipe = resolve("w8a8", settings)
    yield run(recipe, tmp_path_factory.mktemp("runs") / "fast")
    torch.set_num_threads(threads)


def test_the_gate_passes_and_the_report_says_what_prefill_ran_on(finished: Any) -> None:
    data = finished.data
    assert data["artifact"]["gate"]["passed"] is True
    assert all(row["holds"] for step in data["steps"] for row in step["invariants"])
    assert {row["name"] for step in data["steps"] for row in step["invariants"]} == {"on_grid", "acts_8bit"}
    (kernels,) = (note for note in data["notes"] if note.startswith("Kernels:"))
    loaded = read(finished.artifact)
    rounding = [host for _, host in loaded.anatomy.linears() if host.acts is not None]
    parts = {loaded.anatomy.part_of(host.name) for host in rounding}
    assert parts == {"vision", "projector"}
    smooth = [host for host in rounding if loaded.anatomy.part_of(host.name) == "projector"]
    assert all(host.acts == DynamicInt8() for host in smooth)
    scales = {host.acts.scale for host in rounding if isinstance(host.acts, StaticInt8)}
    assert len(scales) > 4
    assert f"{len(smooth)} linears on int8 x int8 x diagonal" in kernels
    assert f"{len(rounding) - len(smooth)} linears on int8 x int8" in kernels
    assert all(isinstance(host.kernel, int8.IntegerProduct) for host in rounding)
    assert any(axis["figure"].startswith("latency.prefill") for axis in data["axes"])
    assert kernels in (finished.folder / "report.md").read_text()


def test_the_bits_that_were_given_are_stored_within_the_budget_and_shown(finished: Any) -> None:
    rows = [json.loads(line) for line in (finished.folder / "journal.jsonl").read_text().splitlines()]
    (given,) = (row["result"] for row in rows if row["stage"] == "step 1 mixed allocation")
    assert rows.index(next(row for row in rows if row["stage"] == "sensitivity")) < rows.index(
        next(row for row in rows if row["stage"] == "before")
    )
    hosts = dict(read(finished.artifact, lowered=False).anatomy.linears())
    assert set(given["bits"]) == {
        name for name, host in hosts.items() if ".language_model." in name and host.acts is None
    }
    for name, number in given["bits"].items():
        (q,) = leaves(hosts[name].w)
        assert isinstance(q, Quantized)
        assert q.bits == number
    stored = sum(bits(hosts[name].w) for name in given["bits"])
    weights = sum(hosts[name].w.shape[0] * hosts[name].w.shape[1] for name in given["bits"])
    assert stored == given["stored_bits"] <= given["most_bits"] == 4.5 * weights
    assert stored > 4.4 * weights, "nearly all of it is used"
    shown = {row["name"]: row["bits_per_weight"] for row in finished.data["layers"] if row["step"] == "step 1 mixed"}
    assert shown == {name: bits(hosts[name].w) / hosts[name].w.dense().numel() for name in given["bits"]}
    assert finished.data["steps"][0]["note"].startswith("Bits by layer: ")
    assert "Bits by layer: " in (finished.folder / "report.md").read_text()


def test_resuming_gives_it_back(finished: Any) -> None:
    assert resume(finished.folder).data == finished.data
    assert not any(isinstance(host, Linear) and host.tap for _, host in read(finished.artifact).anatomy.linears())
