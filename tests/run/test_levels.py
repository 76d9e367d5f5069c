"""Weights on uneven levels in a whole run: an adapter trained on an NF4 base, beside simulated formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import SMALL

from trimtab.core.blocks import Blocks
from trimtab.core.codebook import Codebook
from trimtab.core.factors import LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Sum, leaves
from trimtab.core.weight import Dense
from trimtab.export.deliver import deliver
from trimtab.load import open_source
from trimtab.load.artifact import read
from trimtab.quantize import NF4
from trimtab.run.plan import plan
from trimtab.run.recipe import Recipe
from trimtab.run.result import Result
from trimtab.run.start import resolve, run

STEPS = [
    "nf4: {targets: [language, embedding, head]}",
    "mr_gptq: {format: mxfp4, rotate: 64, targets: [vision]}",
    "lora: {r: 4, lora_alpha: 8, epochs: 1, num_samples: 24, batch_size: 8, learning_rate: 0.01, validation: 0}",
]


def recipe(model: Path, steps: list[str]) -> Recipe:
    quick = [*SMALL, "evaluate.limit=4", "evaluate.after_step=0", "evaluate.robust.limit=0",
             "budget={weights: {max: 1.5x}}"]  # fmt: skip
    return resolve("quickstart", [*quick, f"model={model}", f"steps=[{', '.join('{' + s + '}' for s in steps)}]"])[1]


@pytest.fixture(scope="module")
def done(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(recipe(model_folder, STEPS), tmp_path_factory.mktemp("levels") / "run")


def test_an_adapter_is_trained_beside_levels_that_stay_as_they_were(done: Result, model_folder: Path) -> None:
    """QLoRA: what is stored of the base is what rounding the untouched model gives, bit for bit."""
    loaded = read(done.artifact)
    originals = dict(open_source(model_folder).anatomy.linears())
    trained = 0
    for name, host in loaded.anatomy.linears():
        if loaded.anatomy.part_of(name) not in ("language", "head"):
            continue
        base, *beside = host.w if isinstance(host.w, Sum) else [host.w]
        made = NF4()(originals[name].w, Site(name, originals[name].w.dense))
        assert all(torch.equal(value, base.state_dict()[key]) for key, value in made.state_dict().items())
        for low in beside:
            assert isinstance(low, LowRank)
            assert low.left.any(), "it has learnt"
            trained += 1
    assert trained == 28
    assert len(load_file(done.folder / "adapter" / "adapter_model.safetensors")) == 2 * trained


def test_it_passes_its_gate_with_every_invariant_and_the_bytes_that_were_foretold(
    done: Result, model_folder: Path
) -> None:
    assert done.data["artifact"]["gate"]["passed"]
    rows = [row for step in done.data["steps"] for row in step["invariants"]]
    assert {row["name"] for row in rows} == {"on_grid", "adapter"}
    assert all(row["holds"] for row in rows)
    table = (done.artifact / "trimtab.safetensors").read_bytes()
    assert plan(recipe(model_folder, STEPS)).bytes == len(table) - 8 - int.from_bytes(table[:8], "little")


def test_figures_of_formats_without_a_kernel_say_simulated(done: Result) -> None:
    """The tower's do, what no such weight is part of does not; and the report says why."""
    rows = [json.loads(line) for line in (done.folder / "readings.jsonl").read_text().splitlines()]
    how = {(row["when"], row["name"]): row["how"] for row in rows}
    assert how["after", "latency.vision.b1"] == how["after", "latency.vision.b2"] == "simulated"
    assert how["after", "latency.decode.b1"] == how["after", "latency.prefill.b1"] == "timed"
    assert how["before", "latency.vision.b1"] == "timed"
    assert how["after", "bytes.weights"] == "counted"
    anatomy = read(done.artifact, lowered=False).anatomy
    count = sum(anatomy.part_of(name) == "vision" for name, _ in anatomy.linears())
    (note,) = (note for note in done.data["notes"] if note.startswith(f"Simulated: {count} linears"))
    assert note in (done.folder / "report.md").read_text()


def test_rotated_layers_come_back_and_leave_as_plain_matrices(done: Result, tmp_path: Path) -> None:
    loaded = read(done.artifact, lowered=False)
    hosts = dict(loaded.anatomy.linears())
    vision = [name for name in hosts if loaded.anatomy.part_of(name) == "vision"]
    assert all([type(leaf) for leaf in leaves(hosts[name].w)] == [Codebook, Blocks] for name in vision)
    deliver(done.artifact, "dense", tmp_path / "dense")
    for name, host in open_source(tmp_path / "dense").anatomy.linears():
        assert isinstance(host.w, Dense)
        assert torch.equal(host.w.dense(), hosts[name].w.dense())
