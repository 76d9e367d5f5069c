"""GGUF files: read, run and refused by others as by us."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import decoders as small
import pytest
import subjects
import torch
from safetensors.numpy import load_file

import untested
from trimtab.anatomy import tiny
from trimtab.core.errors import BadInput, Refused
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Chain, Sum
from trimtab.core.sparse import Masked
from trimtab.core.weight import Quantized, Weight
from trimtab.export import formats, gate, samples
from trimtab.export import gguf as form
from trimtab.export.deliver import SAID, deliver
from trimtab.export.gguf import families, language, vision
from trimtab.load import Loaded, gguf_config, open_source
from trimtab.load.artifact import hosts, read
from trimtab.load.loaded import Source
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune

untested.need("gguf")
import gguf  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMTAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


def artifact(folder: Path, name: str) -> Path:
    """Made once for a module."""
    return folder / name if (folder / name).is_dir() else small.made(folder / name, name)


@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_what_leaves_is_what_the_other_reader_runs(name: str, folder: Path, tmp_path: Path) -> None:
    found = deliver(artifact(folder, name), "gguf", tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=1e-5)
    assert found.found.tokens > 400
    assert (tmp_path / "out" / form.EYES).is_file() is (name == "llava")
    said = json.loads((tmp_path / "out" / SAID).read_text())
    assert any("3-bit codes as Q4_0, 4.5 bits for each weight" in note for note in said["notes"])
    assert any("patch_embedding as dense float32" in note for note in said["notes"]) is (name == "llava")


@pytest.mark.parametrize("name", sorted(small.MODELS))
def test_there_and_back_the_logits_are_the_same_bits(name: str, folder: Path, tmp_path: Path) -> None:
    loaded = read(artifact(folder, name), lowered=False)
    form.write(loaded, tmp_path)
    back = open_source(tmp_path / form.MODEL)
    torch.manual_seed(3)
    batch = {"input_ids": torch.randint(3, 290, (2, 30)), "attention_mask": torch.ones(2, 30, dtype=torch.long)}
    batch["attention_mask"][0, :7] = 0
    with torch.no_grad():
        ours, theirs = loaded.library(**batch).logits, back.library(**batch).logits
    assert torch.equal(ours, theirs)
    assert (
        back.tokenizer("hello the inner 12 house?").input_ids == loaded.tokenizer("hello the inner 12 house?").input_ids
    )
    tied = loaded.library.config.tie_word_embeddings
    names = {one.name for one in gguf.GGUFReader(tmp_path / form.MODEL).tensors}
    assert ("output.weight" in names) is not tied


def asked(folder: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> gate.Found:
    """The check of the format, in this process: a fresh one takes as long to start as all of this."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(formats.CHECKS / "shared")])
    spec = spec_from_file_location("gguf_check", formats.get("gguf").check)
    assert spec is not None
    assert spec.loader is not None
    check = module_from_spec(spec)
    spec.loader.exec_module(check)
    import teacher

    return gate.Found(**teacher.compare(check.open_folder(folder), list(teacher.rows(load_file(recorded)))))


def near(found: gate.Found) -> bool:
    """What every engine is held to."""
    assert found.equal is not None
    assert found.perplexity is not None
    assert found.reference is not None
    return found.equal >= gate.EQUAL and abs(found.perplexity / found.reference - 1) <= gate.PERPLEXITY


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[Path, Path]:
    """An exported LLaVA and its samples."""
    out = folder / "whole"
    out.mkdir()
    loaded = read(artifact(folder, "llava"), lowered=False)
    form.write(loaded, out)
    samples.record(loaded, folder / "samples")
    return out, folder / "samples"


def test_a_changed_byte_is_noticed(whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a scale of the file's smallest block type, and of its projector's."""
    for file, tensor in [(form.MODEL, "blk.0.ffn_down.weight"), (form.EYES, "mm.2.weight")]:
        damaged = Path(shutil.copytree(whole[0], tmp_path / file))
        one = next(one for one in gguf.GGUFReader(damaged / file).tensors if one.name == tensor)
        data = bytearray((damaged / file).read_bytes())
        data[one.data_offset + 1] ^= 0x38  # the exponent of the first scale
        (damaged / file).write_bytes(bytes(data))
        assert not near(asked(damaged, whole[1], monkeypatch))


def test_swapped_layers_and_missing_eyes_are_noticed(
    whole: tuple[Path, Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, entries = language._place, vision.entries

    def swapped(family: families.Family, path: str) -> str | None:
        turned = {"layers.0": "layers.1", "layers.1": "layers.0"}
        head, rest = ".".join(path.split(".")[:2]), path.split(".")[2:]
        return place(family, ".".join([turned.get(head, head), *rest]))

    loaded = read(artifact(folder, "llava"), lowered=False)
    with monkeypatch.context() as patch:
        patch.setattr(language, "_place", swapped)
        (tmp_path / "swapped").mkdir()
        form.write(loaded, tmp_path / "swapped")
        assert not near(asked(tmp_path / "swapped", whole[1], patch))
    with monkeypatch.context() as patch:
        patch.setattr(vision, "entries", lambda *given: entries(*given)[1:])
        (tmp_path / "blind").mkdir()
        form.write(loaded, tmp_path / "blind")
        with pytest.raises(AssertionError, match="missing"):
            asked(tmp_path / "blind", whole[1], patch)


def test_keys_are_those_that_llama_cpp_asks_for(whole: tuple[Path, Path]) -> None:
    there = whole[0]
    keys = {name: field.contents() for name, field in gguf.GGUFReader(there / form.EYES).fields.items()}
    wanted = {
        "general.architecture": "clip", "general.type": "mmproj", "clip.projector_type": "mlp",
        "clip.has_vision_encoder": True, "clip.vision.image_size": 128, "clip.vision.patch_size": 8,
        "clip.vision.embedding_length": 64, "clip.vision.feed_forward_length": 96, "clip.vision.block_count": 2,
        "clip.vision.feature_layer": [2], "clip.vision.attention.head_count": 2, "clip.vision.projection_dim": 64,
        "clip.use_gelu": False, "clip.vision.image_mean": pytest.approx([0.5] * 3, abs=0.5),
    }  # fmt: skip
    assert {key: keys[key] for key in wanted} == wanted
    assert keys["clip.vision.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    names = {one.name for one in gguf.GGUFReader(there / form.EYES).tensors}
    assert {"v.class_embd", "v.patch_embd.weight", "v.pre_ln.bias", "v.blk.1.ffn_down.bias", "mm.2.weight"} <= names
    assert not any(name.startswith(("v.post_ln", "v.blk.2.")) for name in names)
    keys = {name: field.contents() for name, field in gguf.GGUFReader(there / form.MODEL).fields.items()}
    assert keys["tokenizer.ggml.model"] == "gpt2"
    assert len(keys["tokenizer.ggml.tokens"]) == keys["llama.vocab_size"]
    assert "<image>" in keys["tokenizer.ggml.tokens"]
    assert keys["tokenizer.chat_template"].startswith("{{ bos_token }}")


def hosted(path: Path, name: str, change: Callable[[Weight], Weight]) -> Loaded:
    """The artifact of a small Llama, one of its weights as ``change`` makes it."""
    loaded = read(path, lowered=False)
    host = next(host for other, host in hosts(loaded.anatomy) if other.endswith(name))
    host.w = change(host.w)
    return loaded


def rtn(**knobs: Any) -> Callable[[Weight], Weight]:
    return lambda w: RTN(**knobs)(w, Site("", w.dense))


def lora(w: Weight) -> Weight:
    return Sum([w, LowRank(torch.randn(w.shape[0], 2).bfloat16(), torch.randn(2, w.shape[1]).bfloat16())])


def awq(w: Weight) -> Weight:
    return Chain([w, Diagonal(torch.rand(w.shape[1]).bfloat16())])


def huge(w: Weight) -> Weight:
    made = RTN(bits=4, group_size=32, symmetric=True)(w, Site("", w.dense))
    made.scale[3, 1] = 1e6
    return made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rtn(bits=4, group_size=16), "4 bits in groups of 16.*nearest: group_size: 32"),
        (rtn(bits=3, group_size=48), "3 bits in groups of 48.*nearest: group_size: 32"),
        (rtn(bits=8, group_size=32, clip=False), "8 bits in groups of 32 with a zero point.*symmetric: true"),
        (lora, "'sum' of .*low_rank.*merge"),
        (awq, "'chain' of .*diagonal.*gptq or rtn"),
        (huge, "scales that float16 does not hold"),
    ],
)
def test_forms_that_no_block_holds_are_refused_by_name(
    change: Callable[[Weight], Weight], words: str, folder: Path
) -> None:
    loaded = hosted(artifact(folder, "llama"), "layers.1.mlp.down_proj", change)
    with pytest.raises(Refused, match=rf"layers\.1\.mlp\.down_proj.*{words}"):
        form.refuse(loaded)


def test_scales_in_float32_are_refused(folder: Path) -> None:
    loaded = read(small.made(folder / "wide", "llama", dtype=torch.float32), lowered=False)
    host = next(host for _, host in loaded.anatomy.linears() if isinstance(host.w, Quantized))
    host.w.scale.mul_(1.1)
    with pytest.raises(Refused, match=r"float16 does not hold \(torch\.float32\).*bfloat16"):
        form.refuse(loaded)


def test_pruned_weights_leave_with_their_zeros(folder: Path, tmp_path: Path) -> None:
    loaded = hosted(artifact(folder, "llama"), "layers.1.mlp.down_proj", lambda w: Masked.of(w.dense(), w.dense() > 0))
    assert any("pruned weights with their zeros as BF16" in note for note in form.notes(loaded))
    form.write(loaded, tmp_path)
    one = next(one for one in gguf.GGUFReader(tmp_path / form.MODEL).tensors if one.name == "blk.1.ffn_down.weight")
    host = next(host for name, host in hosts(loaded.anatomy) if name.endswith("layers.1.mlp.down_proj"))
    assert torch.equal(torch.tensor(gguf.quants.dequantize(one.data, one.tensor_type)), host.w.dense().float())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'.*accepted: silu"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type is 'yarn'.*default, linear, llama3"),
        ({"model_type": "llama4"}, "decoder is a 'llama4' .*nearest: 'llama'"),
    ],
)
def test_what_the_graph_does_not_do_is_refused_by_key(change: dict[str, Any], words: str) -> None:
    config = small.llama().config
    for key, value in change.items():
        object.__setattr__(config, key, value)
    with pytest.raises(Refused, match=words):
        families.family_of(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query_pre_attn_scalar": 12}, "query_pre_attn_scalar is 12.*accepted: 16"),
        ({"final_logit_softcapping": 20.0}, "final_logit_softcapping is 20"),
        ({"layer_types": ["full_attention", "sliding_attention"] * 3 + ["full_attention"]}, "layer_types"),
        ({"attention_bias": True}, "attention_bias is True"),
    ],
)
def test_a_gemma_of_another_kind_is_refused_by_key(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        families.family_of(small.gemma3(**change).config)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("vision_feature_select_strategy", "full", "accepted: 'default'"),
        ("projector_hidden_act", "relu", "accepted: 'gelu'"),
        ("vision_feature_layer", [-2, -1], "accepted: one layer"),
        ("vision_feature_layer", 0, "no layer of the tower"),
        ("vision_config.intermediate_size", 64, "the two halves of the MLP"),
        ("vision_config.model_type", "siglip_vision_model", "accepted: a 'llava' with a 'clip_vision_model'"),
    ],
)
def test_eyes_of_another_kind_are_refused_by_key(key: str, value: Any, words: str, folder: Path) -> None:
    loaded = read(artifact(folder, "llava"), lowered=False)
    of = loaded.library.config.vision_config if "." in key else loaded.library.config
    object.__setattr__(of, key.rpartition(".")[2], value)
    with pytest.raises(Refused, match=words):
        form.refuse(loaded)


KNOWN = ("gemma3", "llama", "llava", "llava-penultimate", "mistral", "qwen2", "qwen3")


@pytest.mark.parametrize("name", sorted(set(tiny.MODELS) - {*KNOWN}))
def test_models_without_a_graph_are_refused_by_name(name: str) -> None:
    model, _ = tiny.make(name)
    source = Source(name, "", "mit", "folder", 0)
    with pytest.raises(Refused, match=r"--format gguf: (the model is a|the decoder is a|config\.)"):
        form.refuse(Loaded(model, None, None, source))


def test_a_model_of_words_that_gguf_has_no_name_for_leaves_without_them(tmp_path: Path) -> None:
    subjects.language(tmp_path / "source", torch.bfloat16)
    loaded = read(subjects.trimmed(tmp_path / "source", tmp_path / "artifact", subjects.four), lowered=False)
    assert any("no tokenizer in the file (its model is WordLevel" in note for note in form.notes(loaded))
    form.write(loaded, tmp_path)
    back = open_source(tmp_path / form.MODEL)
    assert back.tokenizer is None
    ids = torch.arange(4, 40)[None]
    with torch.no_grad():
        assert torch.equal(back.library(ids).logits, loaded.library(ids).logits)


def test_a_rotary_scaling_without_words_is_refused() -> None:
    with pytest.raises(BadInput, match=r"a\.gguf: rope\.scaling\.type is 'yarn'; accepted: none and linear"):
        gguf_config._scale(Path("a.gguf"), {}, {"rope.scaling.type": "yarn"})
    with pytest.raises(BadInput, match=r"a\.gguf: rope_freqs\.weight does not follow"):
        gguf_config._long(Path("a.gguf"), torch.linspace(1, 8, 8), 1e4, {})


def test_policies_are_refused(folder: Path) -> None:
    loaded = read(artifact(folder, "llava"), lowered=False)
    loaded.policies = [DivPrune(keep=0.5)]
    with pytest.raises(Refused, match="divprune"):
        form.refuse(loaded)


def test_a_window_that_the_graph_lacks_bounds_the_context(folder: Path, tmp_path: Path) -> None:
    loaded = read(artifact(folder, "mistral"), lowered=False)
    form.write(loaded, tmp_path)
    assert gguf.GGUFReader(tmp_path / form.MODEL).fields["llama.context_length"].contents() == 200
    assert any("context_length is 200" in note for note in form.notes(loaded))
    assert families.window(small.gemma3().config) is None
