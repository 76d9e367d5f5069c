"""What is written comes back bit for bit; what is not as it was written does not come back at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hublike import edit_header, edit_json, outputs, quantize, repository, same, state, trim, words
from safetensors.torch import load_file, save_file

from seeing import NUMPY, PROCESSORS, image_id
from trimtab import gate
from trimtab.anatomy import tiny
from trimtab.cache import KIVI, SnapKV
from trimtab.core.errors import BadInput, Refused
from trimtab.core.fit import Site
from trimtab.core.weight import Quantized
from trimtab.load import Loaded, artifact, gate_samples, open_source, tensors
from trimtab.load.gate_samples import compare
from trimtab.load.hashing import content_hash
from trimtab.load.manifest import read_manifest
from trimtab.load.skeleton import skeleton
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune

SEEING = ("gemma3-vision", "idefics3", "paligemma", "paligemma2", "siglip", "siglip-vision", "smolvlm", "llava-next",
          "llava-onevision", "internvl", "internvl-layer", "dinov2", "dinov2-gated")  # fmt: skip


@pytest.mark.parametrize("kind", sorted(tiny.MODELS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_is_bit_equal(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    _, batch = repository(tmp_path / "source", kind, dtype)
    loaded = open_source(tmp_path / "source")
    quantize(loaded)
    before, values = outputs(loaded.model, batch), state(loaded.model)
    samples = gate_samples.record(loaded.model, [batch], tmp_path / "samples", private=False)
    info = artifact.write(tmp_path / "out", loaded, {}, samples)
    again = open_source(tmp_path / "out")
    assert gate.check(tmp_path / "out").passed
    assert type(again.model) is type(loaded.model)
    assert same(outputs(again.model, batch), before)
    assert same(state(again.model), values)
    assert not [name for name, value in state(again.model).items() if value.is_meta]
    assert {name: value.dtype for name, value in state(again.model).items()} == {n: v.dtype for n, v in values.items()}
    assert info.bytes == (tmp_path / "out/trimtab.safetensors").stat().st_size
    assert info.bytes < again.source.bytes16  # half of it is the table of names
    assert again.source.bytes16 == loaded.source.bytes16
    assert again.source.kind == "artifact"


@pytest.mark.parametrize("kind", SEEING)
def test_an_untouched_model_is_bit_equal_too(kind: str, tmp_path: Path) -> None:
    """Matrices that the library stores transposed or fused included."""
    _, batch = repository(tmp_path / "source", kind)
    loaded = open_source(tmp_path / "source")
    loaded.anatomy.linears()
    before = outputs(loaded.model, batch)
    artifact.write(tmp_path / "out", loaded, {})
    assert same(outputs(open_source(tmp_path / "out").model, batch), before)


@NUMPY
@pytest.mark.parametrize("kind", ["gemma3-vision", "idefics3", "paligemma"])
def test_processors_that_see_come_back_and_the_gate_s_samples_hold_pictures(kind: str, tmp_path: Path) -> None:
    repository(tmp_path / "source", kind)
    processor = PROCESSORS[kind]()
    processor.save_pretrained(tmp_path / "source")
    edit_json(
        tmp_path / "source/config.json", image_token_id=image_id(processor), image_token_index=image_id(processor)
    )
    loaded = open_source(tmp_path / "source")
    quantize(loaded)
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out")
    assert type(again.processor) is type(processor)
    assert compare(again.model, tmp_path / "out/gate.safetensors") == []
    batch = _batch(loaded)
    assert set(batch) == {"input_ids", "attention_mask", *loaded.anatomy.INPUTS}
    assert len(loaded.anatomy.pictures(batch)) >= 4
    assert all(torch.equal(_batch(again)[key], value) for key, value in batch.items())


def test_tied_weights_are_stored_once_and_stay_one(tmp_path: Path) -> None:
    repository(tmp_path / "source", "gemma3")
    loaded = open_source(tmp_path / "source")
    quantize(loaded)
    artifact.write(tmp_path / "out", loaded, {})
    stored = load_file(tmp_path / "out/trimtab.safetensors")
    assert sum("codes" in name for name in stored) == 1 + 4 * 7
    again = open_source(tmp_path / "out").model
    assert again.lm_head.w is again.model.embed_tokens.w
    assert isinstance(again.lm_head.w, Quantized)


def test_an_untouched_tied_model_keeps_its_tie(tmp_path: Path) -> None:
    repository(tmp_path / "source", "gemma3")
    loaded = open_source(tmp_path / "source")
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out").model
    assert again.lm_head.w.value is again.model.embed_tokens.w.value
    assert (tmp_path / "out/trimtab.safetensors").stat().st_size < 1.1 * 2 * loaded.source.bytes16


def test_ties_outside_hosts_are_one_parameter_again() -> None:
    def pair() -> torch.nn.ModuleDict:
        made = torch.nn.ModuleDict({"a": torch.nn.LayerNorm(4), "b": torch.nn.LayerNorm(4)})
        made["b"].weight = made["a"].weight
        return made

    stored, aliases = tensors.collect(pair())
    assert aliases == {"b.weight": "a.weight"}
    assert set(stored) == {"a.weight", "a.bias", "b.bias"}
    again = pair()
    again["b"].weight = torch.nn.Parameter(torch.zeros(4))
    tensors.assign(again, stored, aliases, "here")
    assert again["b"].weight is again["a"].weight
    with pytest.raises(BadInput, match=r"here: 1 tensors are missing \(b\.weight \(alias of c\)"):
        tensors.assign(again, stored, {"b.weight": "c"}, "here")


def test_views_of_one_another_are_written_whole(tmp_path: Path) -> None:
    whole = torch.randn(4, 6)
    parts = {"a": whole[:, :3], "b": whole[1:], "c": whole.T}
    tensors.save(tmp_path / "x", parts)
    for name, value in tensors.load(tmp_path / "x").items():
        assert torch.equal(value, parts[name])


def test_kernels_are_put_in_place_again(llava_folder: Path, tmp_path: Path) -> None:
    loaded = trim(open_source(llava_folder, dtype="bfloat16"))
    report = loaded.lower()
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out")
    assert again.manifest.lowered is bool(report.kernels)
    running = {name for name, host in again.anatomy.linears() if host.kernel is not None}
    assert running == set(report.kernels)
    assert same(outputs(again.model, _batch(loaded)), outputs(loaded.model, _batch(loaded)))
    reference = open_source(tmp_path / "out", lowered=False)
    assert not [name for name, host in reference.anatomy.linears() if host.kernel is not None]


def test_a_tie_that_was_cut_stays_cut(tmp_path: Path) -> None:
    _, batch = repository(tmp_path / "source", "gemma3")
    loaded = open_source(tmp_path / "source")
    head = dict(loaded.anatomy.linears())["lm_head"]
    head.w = RTN(bits=4, group_size=8)(head.w, Site("lm_head", head.w.dense))
    before = outputs(loaded.model, batch)
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out")
    assert same(outputs(again.model, batch), before)


def test_policies_come_back(trimmed_llava: tuple[Loaded, Path], llava_folder: Path) -> None:
    loaded, folder = trimmed_llava
    again = open_source(folder)
    assert tuple(again.policies) == tuple(loaded.policies)
    assert type(again.model).__name__ == "Trimmed"
    batch = _batch(loaded)
    mine, theirs = outputs(again.model, batch), outputs(loaded.model, batch)
    assert same(mine, theirs)
    assert bool(mine["logits"].isnan().any())
    assert not same(mine, outputs(again.library, batch))
    ids = again.model.generate(**batch, max_new_tokens=4, do_sample=False)
    assert torch.equal(ids, loaded.model.generate(**batch, max_new_tokens=4, do_sample=False))


def _batch(loaded: Loaded) -> dict[str, torch.Tensor]:
    from trimtab.load import synthetic

    return synthetic.batches(loaded.processor, count=1, seed=5)[0]


def test_processor_and_readings_come_back(trimmed_llava: tuple[Loaded, Path]) -> None:
    loaded, folder = trimmed_llava
    again = open_source(folder)
    assert again.image_backend == "pil"
    for name, value in _batch(loaded).items():
        assert torch.equal(_batch(again)[name], value)
    assert [(r.name, r.value, r.spread, r.n, r.how) for r in again.readings] == [
        ("accuracy.easyvqa", 0.5, (0.4, 0.6), 40, "estimated")
    ]
    assert again.model.generation_config.eos_token_id == loaded.model.generation_config.eos_token_id


def test_layout_and_card(trimmed_llava: tuple[Loaded, Path], llava_folder: Path) -> None:
    loaded, folder = trimmed_llava
    there = {path.name for path in folder.iterdir()}
    assert there == {"config.json", "trimtab.json", "trimtab.safetensors", "gate.safetensors", "source", "README.md",
                     "LICENSE"}  # fmt: skip
    assert json.loads((folder / "config.json").read_text())["model_type"] == "trimtab"
    assert (folder / "LICENSE").read_text() == (llava_folder / "LICENSE").read_text()
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "mit"
    assert front["library_name"] == "trimtab"
    for words_ in (
        "Modified: language: rtn, 4 bits",
        "0.4 to 0.6",
        "Audit not needed",
        "trimtab.load(",
        loaded.source.id,
    ):
        assert words_ in card
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert str(llava_folder.parent).encode() not in everything


def test_an_unknown_licence_is_said_to_be_unknown(tmp_path: Path) -> None:
    repository(tmp_path / "source", "llama")
    artifact.write(tmp_path / "out", open_source(tmp_path / "source"), {})
    card = (tmp_path / "out/README.md").read_text()
    assert "unknown licence" in card
    assert "license" not in yaml.safe_load(card.split("---\n")[1])


def test_the_hash_is_that_of_the_content(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    loaded, folder = trimmed_llava
    said = read_manifest(folder)
    assert content_hash(folder) == said.content_hash
    added = {key: said.model_dump(mode="json")[key] for key in ("modified", "quality", "calibration")}
    again = artifact.write(tmp_path / "again", loaded, {**added, "timings": {"gptq": 99.0}})
    assert again.content_hash == said.content_hash
    other = artifact.write(tmp_path / "other", loaded, {**added, "modified": ["something else"]})
    assert other.content_hash != said.content_hash
    for name in ("config.json", "source/config.json", "source/tokenizer.json", "trimtab.safetensors"):
        copied = tmp_path / name.replace("/", "-")
        shutil.copytree(folder, copied)
        data = bytearray((copied / name).read_bytes())
        data[-2] ^= 1
        (copied / name).write_bytes(bytes(data))
        assert content_hash(copied) != said.content_hash
        with pytest.raises(BadInput, match="changed or damaged"):
            open_source(copied)


def test_writing_replaces_an_artifact_and_nothing_else(tmp_path: Path) -> None:
    repository(tmp_path / "source", "llama")
    loaded = open_source(tmp_path / "source")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(Refused, match="no artifact"):
        artifact.write(tmp_path / "mine", loaded, {})
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"
    first = artifact.write(tmp_path / "out", loaded, {})
    (tmp_path / "out/stale").touch()
    quantize(loaded)
    second = artifact.write(tmp_path / "out", loaded, {})
    assert second.content_hash != first.content_hash
    assert not (tmp_path / "out/stale").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if "part" in path.name) == []


def test_a_failed_write_leaves_the_old_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path / "source", "llama")
    loaded = open_source(tmp_path / "source")
    first = artifact.write(tmp_path / "out", loaded, {})

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact, "model_card", full)
    with pytest.raises(OSError, match="No space"):
        artifact.write(tmp_path / "out", loaded, {"modified": ["x"]})
    assert content_hash(tmp_path / "out") == first.content_hash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_a_trimmed_model_is_trimmed_again(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    _, folder = trimmed_llava
    again = open_source(folder)
    trim(again, keep=None)
    artifact.write(tmp_path / "out", again, {"modified": ["no tokens are dropped"]})
    third = open_source(tmp_path / "out")
    assert third.policies == []
    assert third.manifest.base == again.manifest.base


def resealed(folder: Path, out: Path, change: Any) -> Path:
    """A copy that was changed and then sealed with its own hash and size: what a faulty writer would make."""
    shutil.copytree(folder, out)
    change(out)
    edit_json(out / "trimtab.json", bytes=(out / "trimtab.safetensors").stat().st_size)
    edit_json(out / "trimtab.json", content_hash=content_hash(out))
    return out


def drop(folder: Path, part: str) -> None:
    path = folder / "trimtab.safetensors"
    save_file({k: v for k, v in load_file(path).items() if part not in k}, path)


def test_missing_and_left_over_tensors(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    _, folder = trimmed_llava
    gone = resealed(folder, tmp_path / "gone", lambda out: drop(out, "layers.1.mlp.fc1.bias"))
    with pytest.raises(BadInput, match=r"1 tensors are missing \(.*fc1\.bias"):
        open_source(gone)

    def more(out: Path) -> None:
        path = out / "trimtab.safetensors"
        save_file({**load_file(path), "model.extra": torch.ones(2)}, path)

    with pytest.raises(BadInput, match=r"1 are left over \(model\.extra"):
        open_source(resealed(folder, tmp_path / "more", more))


def test_specs_must_fit_tensors(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    _, folder = trimmed_llava
    name = "model.language_model.layers.0.self_attn.q_proj"

    def change(**spec: Any) -> Any:
        def edit(out: Path) -> None:
            value = json.loads((out / "trimtab.json").read_text())
            value["weights"][name] |= spec
            (out / "trimtab.json").write_text(json.dumps(value))

        return edit

    for number, (spec, words_) in enumerate([
        ({"bits": 8}, "size mismatch"), ({"dtype": "bfloat16"}, "trimtab.json says"), ({"kind": "lowrank"}, "lowrank"),
        ({"symmetric": True}, "left over"),
    ]):  # fmt: skip
        with pytest.raises(BadInput, match=words_):
            open_source(resealed(folder, tmp_path / str(number), change(**spec)))


@pytest.mark.parametrize(
    ("changes", "words_"),
    [
        ({"format": 2}, "pip install -U trimtab"),
        ({"image_backend": "torchvision"}, "image backend 'torchvision'"),
    ],
)
def test_newer_formats_and_other_backends_are_refused(
    changes: dict[str, Any], words_: str, trimmed_llava: tuple[Loaded, Path], tmp_path: Path
) -> None:
    shutil.copytree(trimmed_llava[1], tmp_path / "out")
    edit_json(tmp_path / "out/trimtab.json", **changes)
    with pytest.raises(Refused, match=words_):
        open_source(tmp_path / "out")


def test_damaged_manifests_are_named(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    shutil.copytree(trimmed_llava[1], tmp_path / "out")
    edit_json(tmp_path / "out/trimtab.json", threads="many", extra=1)
    with pytest.raises(BadInput, match=r"trimtab\.json: .*(threads|extra).*(threads|extra)"):
        open_source(tmp_path / "out")
    (tmp_path / "out/trimtab.json").unlink()
    with pytest.raises(BadInput, match=r"trimtab\.json is missing"):
        open_source(tmp_path / "out")


def test_truncated_tensors_are_named(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    shutil.copytree(trimmed_llava[1], tmp_path / "out")
    path = tmp_path / "out/trimtab.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match=r"trimtab\.safetensors: truncated"):
        artifact.read(tmp_path / "out", verify=False)
    edit_header(path, lambda table: table.pop("lm_head.w.value"))


@pytest.mark.parametrize("kind", ["llava", "gemma3", "clip", "bert", "gptneox", "opt", "phi3", "whisper", *SEEING])
def test_a_skeleton_has_all_buffers_and_no_weights(kind: str, tmp_path: Path) -> None:
    model, _ = repository(tmp_path, kind, torch.bfloat16)
    theirs = type(model).from_pretrained(tmp_path)
    empty = skeleton(type(model), theirs.config, torch.bfloat16)
    assert all(value.is_meta and value.dtype == torch.bfloat16 for value in empty.parameters())
    assert {name: value.shape for name, value in empty.named_parameters()} == {
        name: value.shape for name, value in theirs.named_parameters()
    }
    assert same(dict(empty.named_buffers()), dict(theirs.named_buffers()))
    assert not torch.nn.Linear(2, 2).weight.is_meta  # outside, modules are made as ever


def test_loading_leaves_the_random_generator_alone(trimmed_llava: tuple[Loaded, Path]) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    open_source(trimmed_llava[1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_text_model_carries_its_tokenizer(tmp_path: Path) -> None:
    repository(tmp_path / "source", "llama")
    words(tmp_path / "source")
    artifact.write(tmp_path / "out", open_source(tmp_path / "source"), {})
    assert open_source(tmp_path / "out").tokenizer("w3 w5")["input_ids"] == [6, 8]
    assert (tmp_path / "out/gate.safetensors").is_file()


def test_cache_policies_come_back_in_order_and_the_gate_sees_what_they_do(llava_folder: Path, tmp_path: Path) -> None:
    """Prompts alone do not show them, so a few more tokens are recorded; other knobs or none give other ones."""
    loaded = open_source(llava_folder)
    loaded.policies = (DivPrune(0.5), SnapKV(48, 8), KIVI(4, 32, 16))
    artifact.write(tmp_path / "out", loaded, {})
    again, samples = artifact.read(tmp_path / "out"), tmp_path / "out/gate.safetensors"
    assert tuple(again.policies) == loaded.policies
    assert again.model.cached
    assert gate_samples.compare(again.model, samples) == []
    assert gate.check(tmp_path / "out").passed
    for others in ((), (SnapKV(64, 8), KIVI(4, 32, 16)), (SnapKV(48, 8),), (KIVI(4, 32, 16), SnapKV(40, 8))):
        again.policies = (DivPrune(0.5), *others)
        assert {row.output for row in gate_samples.compare(again.model, samples)} == {"decoded"}
