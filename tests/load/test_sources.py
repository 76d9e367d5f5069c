"""Every kind of source opens as what its config names, whole; what would load wrong is refused and says why."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from hublike import edit_header, edit_json, outputs, repository, same, state, words
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from trimtab.core.errors import BadInput, Refused
from trimtab.load import open_source

KINDS = ["llava", "llama", "gemma3", "clip", "bert", "qwen2", "llava-next", "llava-onevision", "internvl", "dinov2"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_opens_as_its_architecture_bit_for_bit(kind: str, tmp_path: Path) -> None:
    model, batch = repository(tmp_path / kind, kind)
    loaded = open_source(tmp_path / kind)
    assert type(loaded.model) is type(model)
    assert not loaded.model.training
    assert same(outputs(loaded.model, batch), outputs(model, batch))
    assert (loaded.source.id, loaded.source.kind, loaded.source.license) == (kind, "folder", "unknown")
    assert loaded.source.bytes16 == sum(2 * p.numel() for p in model.parameters())
    assert loaded.processor is None
    assert loaded.anatomy.model is loaded.model
    assert all(p.data_ptr() % 64 == 0 for p in loaded.model.parameters())


def test_tied_tensors_count_once(tmp_path: Path) -> None:
    model, _ = repository(tmp_path, "gemma3")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    both = sum(2 * value.numel() for value in model.state_dict().values())
    assert open_source(tmp_path).source.bytes16 == both - 2 * model.lm_head.weight.numel()


def test_dtype_is_the_checkpoints_unless_given(tmp_path: Path) -> None:
    repository(tmp_path, "llama", torch.bfloat16)
    assert open_source(tmp_path).model.dtype == torch.bfloat16
    assert open_source(tmp_path, dtype="float32").model.dtype == torch.float32
    with pytest.raises(BadInput, match=r"dtype: got 'bfloat'.*nearest: 'bfloat16'"):
        open_source(tmp_path, dtype="bfloat")


def test_text_models_have_their_tokenizer_as_processor(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    words(tmp_path)
    loaded = open_source(tmp_path)
    assert loaded.processor is loaded.tokenizer
    assert loaded.tokenizer("w3 w5")["input_ids"] == [6, 8]
    assert loaded.image_backend is None


def test_llava_has_its_processor_with_the_recorded_backend(llava_folder: Path) -> None:
    loaded = open_source(llava_folder)
    assert loaded.image_backend == "pil"
    assert type(loaded.processor).__name__ == "LlavaProcessor"
    assert loaded.tokenizer is loaded.processor.tokenizer


def test_revision_of_a_folder_follows_config_and_tensors(tmp_path: Path) -> None:
    repository(tmp_path / "a", "llama")
    first = open_source(tmp_path / "a").source.revision
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert open_source(tmp_path / "b").source.revision == first
    tensors = load_file(tmp_path / "b/model.safetensors")
    tensors["model.norm.weight"][3] += 1
    save_file(tensors, tmp_path / "b/model.safetensors", metadata={"format": "pt"})
    second = open_source(tmp_path / "b").source.revision
    edit_json(tmp_path / "a/config.json", rms_norm_eps=1e-5)
    third = open_source(tmp_path / "a").source.revision
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("README.md", "---\nlicense: mit\n---\n# x", "mit"),
        ("README.md", "---\nlicense: other\nlicense_name: gemma\n---\n", "gemma"),
        ("README.md", "# no front matter, license: mit", "unknown"),
        ("LICENSE", "\n   Apache License\n  Version 2.0", "apache-2.0"),
        ("LICENSE", "All rights reserved", "unknown"),
    ],
)
def test_license_is_read_and_never_guessed(name: str, text: str, expected: str, tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    (tmp_path / name).write_text(text)
    assert open_source(tmp_path).source.license == expected


def test_names_that_are_nothing() -> None:
    with pytest.raises(BadInput, match=r"builtin: got 'minilmm' \(nearest: 'minilm'\)"):
        open_source("builtin:minilmm")
    for name in ("./nowhere", "/no/such/folder", "missing.gguf", "a/b/c", "bultin:minilm"):
        with pytest.raises(BadInput, match="which is not there"):
            open_source(name)
    with pytest.raises(BadInput, match="nearest: 'builtin:minilm'"):
        open_source("bultin:minilm")
    with pytest.raises(BadInput, match="revision"):
        open_source("builtin:minilm", revision="main")


def test_local_models_open_no_socket(
    llava_folder: Path, trimmed_llava: tuple[object, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*given: object) -> None:
        raise AssertionError(f"a socket was opened: {given}")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    for name in (llava_folder, trimmed_llava[1], "builtin:minilm"):
        open_source(name)


def test_minilm_comes_from_its_package() -> None:
    loaded = open_source("builtin:minilm")
    assert (loaded.source.license, loaded.source.kind) == ("apache-2.0", "builtin")
    found = loaded.model(**loaded.tokenizer(["a small text", "b"], return_tensors="pt", padding=True))
    assert found.last_hidden_state.shape[::2] == (2, 384)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_pickles_are_refused_with_the_command_that_converts(name: str, tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(b"\x80\x04not even opened")
    for given in (tmp_path, tmp_path / name):
        with pytest.raises(Refused, match=r"(?s)pickle.*LlamaForCausalLM\.from_pretrained.*use_safetensors=False"):
            open_source(given)


def test_a_pickle_beside_safetensors_is_left_alone(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    wanted = state(open_source(tmp_path).library)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04not even opened")
    assert same(state(open_source(tmp_path).library), wanted)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def empty(path: Path) -> None:
    path.write_bytes(b"\1\2")


def huge_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def no_json(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] = ord("[")
    path.write_bytes(bytes(data))


def overlap(path: Path) -> None:
    def change(table: dict) -> None:
        name = [key for key in table if key != "__metadata__"][3]
        table[name]["data_offsets"] = [at - 4 for at in table[name]["data_offsets"]]

    edit_header(path, change)


def wrong_shape(path: Path) -> None:
    edit_header(path, lambda table: table["model.norm.weight"].update(shape=[33]))


def wrong_type(path: Path) -> None:
    edit_header(path, lambda table: table["model.norm.weight"].update(dtype="F31"))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(16))


@pytest.mark.parametrize(
    "damage", [cut, cut_header, empty, huge_header, no_json, overlap, wrong_shape, wrong_type, longer]
)
def test_damaged_safetensors_are_named(damage: object, tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    damage(tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"model\.safetensors: (corrupt|truncated)"):
        open_source(tmp_path)


def test_shards_are_checked_by_their_index(tmp_path: Path) -> None:
    model, batch = repository(tmp_path, "llama")
    expected = outputs(model, batch)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert same(outputs(open_source(tmp_path).model, batch), expected)
    kept = shards[0].read_bytes()
    shards[0].unlink()
    with pytest.raises(BadInput, match=rf"{shards[0].name}: no such file"):
        open_source(tmp_path)
    shards[0].write_bytes(kept[:-1])
    with pytest.raises(BadInput, match=rf"{shards[0].name}: truncated"):
        open_source(tmp_path)
    shards[0].write_bytes(kept)
    index = tmp_path / "model.safetensors.index.json"
    value = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": {**value["weight_map"], "lm_head.weight": "../evil.safetensors"}}))
    with pytest.raises(Refused, match="evil"):
        open_source(tmp_path)


def test_missing_tensors_are_listed_not_invented(tmp_path: Path) -> None:
    repository(tmp_path, "llava")
    tensors = load_file(tmp_path / "model.safetensors")
    lost = [name for name in tensors if "vision_tower" in name and "layers.1.mlp.fc1" in name]
    assert len(lost) == 2
    save_file({k: v for k, v in tensors.items() if k not in lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"2 tensors of LlavaForConditionalGeneration are missing.*layers\.1\.mlp\.fc1"):
        open_source(tmp_path)


def test_tensors_of_another_shape_are_refused(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    edit_json(tmp_path / "config.json", intermediate_size=64)
    with pytest.raises(BadInput, match="LlamaForCausalLM cannot be loaded"):
        open_source(tmp_path)


def test_tensors_that_are_not_used_are_noted(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "model.extra": torch.ones(3)}, tmp_path / "model.safetensors", {"format": "pt"})
    assert open_source(tmp_path).notes == ["1 tensors are not used by LlamaForCausalLM: model.extra"]


def test_quantized_checkpoints_are_refused(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    edit_json(tmp_path / "config.json", quantization_config={"quant_method": "made_up"})
    with pytest.raises(Refused, match="quant_method 'made_up'"):
        open_source(tmp_path)
    edit_json(tmp_path / "config.json", quantization_config=None, text_config={"quantization_config": {"bits": 4}})
    with pytest.raises(Refused, match="quant_method 'unknown'"):
        open_source(tmp_path)


def test_unknown_classes_and_configs(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    edit_json(tmp_path / "config.json", architectures=["LlamaForCausalLMs"])
    with pytest.raises(BadInput, match="nearest: 'LlamaForCausalLM'"):
        open_source(tmp_path)
    edit_json(tmp_path / "config.json", architectures=None)
    with pytest.raises(BadInput, match="architectures: got none"):
        open_source(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json: not readable as JSON"):
        open_source(tmp_path)


def test_remote_code_runs_only_where_it_is_named(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    edit_json(
        tmp_path / "config.json", architectures=["OwnModel"], model_type="own",
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    )  # fmt: skip
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    with pytest.raises(Refused, match=r"(?s)own\.OwnModel.*trust_remote_code: true"):
        open_source(tmp_path)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(Refused, match=r"as they are needed .*the model needs code from its repository"):
        open_source(tmp_path, trust_remote_code=True, stream=True)
    assert not (tmp_path / "ran").exists()
    loaded = open_source(tmp_path, trust_remote_code=True)
    assert (tmp_path / "ran").exists()
    assert all(value.data_ptr() % 64 == 0 for value in loaded.model.parameters())
    assert loaded.code
    assert type(loaded.model).__name__ == "OwnModel"
