"""Adapters in whole runs: trained on any base, resumed, written as PEFT has them, loaded, merged, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small import SMALL

from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.factors import LowRank
from trimtab.core.joins import Sum
from trimtab.core.sparse import Masked
from trimtab.core.weight import Quantized
from trimtab.load.artifact import read
from trimtab.run.result import Result
from trimtab.run.start import resolve, resume, run
from trimtab.run.tune import Tuning

LORA = "lora: {r: 4, lora_alpha: 8, epochs: 2, num_samples: 40, batch_size: 8, learning_rate: 0.01, patience: 9}"
RTN = "rtn: {bits: 3, group_size: 64, targets: [language, projector]}"
QUICK = [*SMALL, "evaluate.limit=4", "evaluate.after_step=4", "evaluate.robust.limit=0",
         "budget={weights: {max: 1.5x}}"]  # fmt: skip


def go(model: Path, out: Path, *steps: str, more: tuple[str, ...] = ()) -> Result:
    _, recipe = resolve(
        "quickstart", [*QUICK, f"model={model}", f"steps=[{', '.join('{' + s + '}' for s in steps)}]", *more]
    )
    return run(recipe, out)


def holds(result: Result) -> dict[str, bool]:
    return {row["name"]: row["holds"] for row in result.data["steps"][-1]["invariants"]}


@pytest.fixture(scope="module")
def healed(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return go(model_folder, tmp_path_factory.mktemp("healed") / "run", RTN, LORA)


def test_on_a_quantized_base_the_grid_stands_and_the_adapter_beside_it(healed: Result) -> None:
    assert holds(healed) == {"on_grid": True, "adapter": True}
    assert healed.data["artifact"]["gate"]["passed"]
    loaded = read(healed.artifact)
    hosts = dict(loaded.anatomy.linears())
    language = {name: host for name, host in hosts.items() if loaded.anatomy.part_of(name) == "language"}
    assert all(isinstance(host.w, Sum) for host in language.values())
    kinds = {tuple(type(part) for part in host.w) for host in language.values()}
    assert kinds == {(Quantized, LowRank)}
    assert isinstance(hosts["model.multi_modal_projector.linear_1"].w, Quantized)
    rows = [row for row in healed.data["layers"] if row["step"] == "step 2 lora"]
    assert {row["name"] for row in rows} == set(language)
    assert all(row["bits_per_weight"] > 3.3 for row in rows), "the adapter's bytes are counted"
    assert any(row["error"] > 0 for row in rows)


def test_what_is_written_is_a_peft_folder_of_what_was_served(healed: Result) -> None:
    folder = healed.folder / "adapter"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8)
    stored = load_file(folder / "adapter_model.safetensors")
    hosts = dict(read(healed.artifact).anatomy.linears())
    assert {len(config["target_modules"]), len(stored) // 2} == {28}
    for name in config["target_modules"]:
        *_, low = hosts[name].w
        assert torch.equal(stored[f"base_model.model.{name}.lora_A.weight"], low.right)
        assert torch.equal(stored[f"base_model.model.{name}.lora_B.weight"], low.left)


def test_a_loaded_adapter_on_the_same_base_is_the_same_model(
    healed: Result, model_folder: Path, tmp_path: Path
) -> None:
    again = go(model_folder, tmp_path / "run", RTN, f"load_adapter: {healed.folder / 'adapter'}")
    assert holds(again) == {"on_grid": True, "adapter": True}
    one, two = (load_file(result.artifact / "trimtab.safetensors") for result in (healed, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert str(tmp_path) not in (again.artifact / "trimtab.json").read_text(), "no path leaves with the artifact"


@pytest.mark.parametrize("at", [1, 3])
def test_killed_in_training_and_resumed_it_ends_in_the_same_artifact(
    at: int, healed: Result, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    save, left = Tuning._save, [at]

    def dying(self: Any, *given: Any) -> None:
        save(self, *given)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Tuning, "_save", dying)
        with pytest.raises(Killed):
            go(model_folder, tmp_path / "run", RTN, LORA)
    result = resume(tmp_path / "run")
    assert result.data["artifact"]["content_hash"] == healed.data["artifact"]["content_hash"]


def test_merging_onto_a_grid_is_refused_or_its_error_is_stated(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"merge\.requantize: .* is on a grid of 3 bits"):
        go(model_folder, tmp_path / "refused", RTN, LORA, "merge: {}")
    result = go(model_folder, tmp_path / "run", RTN, LORA, "merge: {requantize: true}")
    assert holds(result) == {"on_grid": True}
    rows = {row["name"]: row["error"] for row in result.data["layers"] if row["step"] == "step 3 merge"}
    assert len(rows) == 28
    assert all(0 < error < 0.5 for error in rows.values())
    assert {type(host.w) for _, host in read(result.artifact).anatomy.linears()} >= {Quantized}


def test_what_is_2_4_stays_so_through_lora_and_merge(model_folder: Path, tmp_path: Path) -> None:
    result = go(model_folder, tmp_path / "run", "wanda: {keep: 0.5, pattern: '2:4', targets: [language]}", LORA)
    assert holds(result)["masked"]
    before = Path(tmp_path / "plain")
    plain = go(model_folder, before, "wanda: {keep: 0.5, pattern: '2:4', targets: [language]}")
    one, two = (dict(read(r.artifact).anatomy.linears()) for r in (plain, result))
    changed = 0
    for name, host in one.items():
        if isinstance(host.w, Masked):
            assert isinstance(two[name].w, Masked)
            assert torch.equal(host.w.mask, two[name].w.mask)
            changed += not torch.equal(host.w.values, two[name].w.values)
    assert changed > 0
    assert not (result.folder / "adapter").exists(), "a masked correction is no B A that PEFT could load"


def test_dense_bases_train_and_merge_into_plain_matrices(model_folder: Path, tmp_path: Path) -> None:
    result = go(model_folder, tmp_path / "run", LORA, "merge: {}", "divprune: {keep: 0.5}")
    assert holds(result) == {"tokens_kept": True}
    kinds = {type(host.w).__name__ for _, host in read(result.artifact).anatomy.linears()}
    assert kinds == {"Dense"}
    assert result.data["artifact"]["gate"]["passed"]


def test_bad_adapters_are_named_before_the_work(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"lora\.r: got 999; accepted: 1 to 192.*self_attn\.q_proj"):
        go(model_folder, tmp_path / "a", "lora: {r: 999}")
    with pytest.raises(BadInput, match=r"lora\.rank: unknown knob \(here it is called 'r'\)"):
        go(model_folder, tmp_path / "b", "lora: {rank: 4}")
    with pytest.raises(BadInput, match="no such file"):
        go(model_folder, tmp_path / "c", "load_adapter: nowhere")
    with pytest.raises(BadInput, match="merge: no layer has an adapter"):
        go(model_folder, tmp_path / "d", "merge: {}")
    test = ("calibrate={dataset: easyvqa-grid, split: test, num_samples: 8}",)
    with pytest.raises(BadInput, match=r"'test', which lora would train on and task\.split is measured on"):
        go(model_folder, tmp_path / "f", "lora: {r: 4}", more=test)
    beside = ("calibrate={split: test, num_samples: 8}", "task={dataset: easyvqa, split: train}",
              "also=[{dataset: easyvqa-grid, split: test, limit: 4}]")  # fmt: skip
    with pytest.raises(BadInput, match=r"also\.0\.split is measured on"):
        go(model_folder, tmp_path / "g", "lora: {r: 4, dataset: easyvqa-grid}", more=beside)
    with pytest.raises(Anomaly, match="learning_rate"):
        go(model_folder, tmp_path / "e", "lora: {r: 4, epochs: 1, num_samples: 40, learning_rate: 1.0e+30}")
