"""A tower's names in exported folders: those of published checkpoints, which transformers and vLLM both read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import subjects
from safetensors import safe_open
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    SiglipVisionConfig,
)

from trimtab.core.tensorfile import save_tensors
from trimtab.export.deliver import deliver
from trimtab.export.towers import published, target, towers

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}


def llava(vision: PreTrainedConfig) -> LlavaForConditionalGeneration:
    text = LlamaConfig(**SMALL, num_key_value_heads=1, vocab_size=32)
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text))


@pytest.mark.parametrize("kind", [CLIPVisionConfig, SiglipVisionConfig])
def test_published_names_load_in_transformers(kind: type[PreTrainedConfig], tmp_path: Path) -> None:
    model = llava(kind(**SMALL, image_size=32, patch_size=16))
    assert towers(model) == ("model.vision_tower",)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    named = published(state, towers(model))
    assert "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight" in named
    assert len(named) == len(state)
    assert not any("vision_tower.encoder" in name for name in named)
    save_tensors(tmp_path / "model.safetensors", named, {"format": "pt"})
    model.config.save_pretrained(tmp_path)
    other, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(value.equal(other.state_dict()[name]) for name, value in state.items())


def test_a_pattern_finds_the_module_in_either_naming() -> None:
    inside = ("model.vision_tower",)
    pattern = target("model.vision_tower.encoder.layers.1.mlp.fc1", inside).removeprefix("re:")
    for name in ("model.vision_tower.encoder", "vision_tower.vision_model.encoder"):
        assert re.match(pattern, f"{name}.layers.1.mlp.fc1")
        assert not re.match(pattern, f"{name}.layers.11.mlp.fc1")
        assert not re.match(pattern, f"{name}.layers.1.mlp.fc12")
    head = target("lm_head", inside).removeprefix("re:")
    assert re.match(head, "lm_head")
    assert re.match(head, "language_model.lm_head")
    assert not re.match(head, "my_lm_head")
    assert target("model.layers.0.mlp.up_proj", inside) == "model.layers.0.mlp.up_proj"


@pytest.mark.parametrize("form", ["dense", "compressed-tensors", "gptq", "awq"])
def test_an_exported_tower_has_its_published_names(form: str, tmp_path: Path) -> None:
    """In the file, and in what AWQ's config says is not quantized, by which vLLM knows a dense tower."""
    subjects.seeing(tmp_path / "model")
    deliver(subjects.trimmed(tmp_path / "model", tmp_path / "artifact", subjects.four), form, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if "vision_tower" in name]  # noqa: SIM118
    assert names
    assert all(name.startswith("model.vision_tower.vision_model.") for name in names)
    if form == "awq":
        about = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["quantization_config"]
        for name in (
            "model.vision_tower.encoder.layers.0.mlp.fc1",
            "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1",
        ):
            assert name in about["modules_to_not_convert"]
