"""The parts of a model, run apart, say what the whole says, and cost what they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from trimtab import anatomy
from trimtab.anatomy import tiny
from trimtab.anatomy.trimmed import Trimmed
from trimtab.cache import Sinks
from trimtab.core.errors import BadInput
from trimtab.core.keep import Keep, share
from trimtab.core.reading import Reading
from trimtab.measure.flops import flops
from trimtab.measure.parts import calls
from trimtab.measure.vlm import Parts, latencies, parts

IMAGE, PATCHES = 60, 16


def operations(found: Parts) -> list[Reading]:
    """``flops.vision`` and ``flops.prefill``, each counted by itself."""
    return [flops(f"flops.{name}", call) for name, call in calls(found) if name != "decode"]


@pytest.fixture
def llava() -> Any:
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                              image_size=32, patch_size=8)  # fmt: skip
    text = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                       num_attention_heads=4, num_key_value_heads=2, head_dim=8, pad_token_id=0)  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1,
                         vision_feature_select_strategy="default", tie_word_embeddings=False)  # fmt: skip
    return LlavaForConditionalGeneration(config).eval()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 50, (2, PATCHES + 6))
    ids[:, 1 : PATCHES + 1] = IMAGE
    mask = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(2, 3, 32, 32)}


def _greedy(model: Any, batch: dict[str, torch.Tensor], steps: int) -> torch.Tensor:
    made = model.generate(**batch, do_sample=False, max_new_tokens=steps, min_new_tokens=steps, pad_token_id=0)
    return made[:, batch["input_ids"].shape[1] :]


def _run(found: Any, steps: int) -> torch.Tensor:
    logits = [found.prefill()] + [found.decode() for _ in range(steps - 1)]
    return torch.cat([one[:, -1:].argmax(-1) for one in logits], 1)


def repeated(batch: dict[str, torch.Tensor], rows: int) -> dict[str, torch.Tensor]:
    """The first row of a batch (one picture a row) ``rows`` times."""
    return {name: value[:1].repeat(rows, *([1] * (value.ndim - 1))) for name, value in batch.items()}


def test_library_model_says_the_same_in_parts(llava: Any, batch: dict[str, torch.Tensor]) -> None:
    found = parts(llava, batch)
    with torch.no_grad():
        whole = llava(**batch).logits[:, -1:]
    assert torch.allclose(found.prefill(), whole, atol=1e-5)  # type: ignore[arg-type]
    assert torch.equal(_run(found, 5), _greedy(llava, batch, 5))
    assert torch.equal(_run(found, 3), _greedy(llava, batch, 3))  # prefill begins anew


def test_trimmed_model_says_the_same_in_parts(llava: Any, batch: dict[str, torch.Tensor]) -> None:
    first = Keep(score=lambda sight: -sight.stream.source.float(), budget=share(0.5))
    net = Trimmed(anatomy.of(llava), [first])
    found = parts(net, batch)
    assert torch.equal(_run(found, 5), _greedy(net, batch, 5))
    whole, trimmed = (dict(_row(one) for one in operations(parts(model, batch))) for model in (llava, net))
    assert whole["flops.vision"] == trimmed["flops.vision"]
    assert trimmed["flops.prefill"] < 0.75 * whole["flops.prefill"]


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen2.5-vl", "qwen3-vl"])
def test_pictures_of_several_sizes_and_their_places_are_in_the_parts(name: str) -> None:
    model, batch = tiny.make(name)
    model.generation_config.eos_token_id = None
    wanted = _greedy(model, batch, 5)
    found = parts(model, batch)
    assert torch.equal(_run(found, 5), wanted)
    net = Trimmed(anatomy.of(model), [Keep(score=lambda sight: sight.stream.source.float(), budget=share(0.1))])
    found = parts(net, batch)
    assert torch.equal(_run(found, 5), _greedy(net, batch, 5))
    counted = dict(_row(one) for one in operations(found))
    assert counted["flops.vision"] > 0
    whole = dict(_row(one) for one in operations(parts(Trimmed(net.anatomy), batch)))
    assert counted["flops.vision"] == whole["flops.vision"]
    assert counted["flops.prefill"] < whole["flops.prefill"]


def _row(reading: Any) -> tuple[str, float]:
    return reading.name, reading.value


def test_vision_is_not_in_prefill(llava: Any, batch: dict[str, torch.Tensor]) -> None:
    counted = dict(_row(one) for one in operations(parts(llava, batch)))
    d, inner, t, p = 32, 48, PATCHES + 6, PATCHES + 1
    layer = 2 * 2 * t * (d * 8 * (2 * 4 + 2 * 2) + 3 * d * inner) + 4 * 2 * 4 * t * t * 8
    rotary = 2 * 4 * t
    head = 2 * 2 * d * 64  # of the last token alone
    assert counted["flops.prefill"] - 2 * layer - head in (0, rotary, 2 * rotary)
    tower = 2 * (2 * 2 * p * (4 * 32 * 32 + 2 * 32 * 64) + 4 * 2 * p * p * 32)
    patches, projector = 2 * 2 * PATCHES * 32 * 3 * 64, 2 * 2 * PATCHES * 2 * 32 * 32
    assert counted["flops.vision"] == tower + patches + projector


def test_language_model(batch: dict[str, torch.Tensor]) -> None:
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)  # fmt: skip
    net = LlamaForCausalLM(config).eval()
    words = {"input_ids": batch["input_ids"], "attention_mask": torch.ones_like(batch["input_ids"])}
    words["attention_mask"][0, :5] = 0  # padded on the left
    found = parts(net, words)
    assert found.vision is None
    assert torch.equal(_run(found, 4), _greedy(net, words, 4))
    assert [one.name for one in operations(found)] == ["flops.prefill"]
    with pytest.raises(BadInput, match="prefill"):
        parts(net, words).decode()
    with pytest.raises(BadInput, match="does not tell its pictures' features"):
        parts(net, batch)


def test_the_bytes_of_both_caches_are_counted(llava: Any, batch: dict[str, torch.Tensor]) -> None:
    """Ours by itself, the library's by its tensors; two key heads of 8 channels, float32, in two layers."""
    net, entry = anatomy.of(llava), 2 * 2 * 8 * 4 * 2
    first = Keep(score=lambda sight: -sight.stream.source.float(), budget=share(0.5))
    for model, stored in (
        (llava, PATCHES + 6),
        (Trimmed(net), PATCHES + 6),
        (Trimmed(net, [first]), PATCHES // 2 + 6),
        (Trimmed(net, [Sinks(2, 5).policy()]), 7),
    ):
        found = parts(model, batch)
        found.prefill()
        assert found.cache() == 2 * entry * stored
        found.decode()
        assert found.cache() == 2 * entry * (stored if stored == 7 else stored + 1)
    with pytest.raises(BadInput, match="cache: prefill"):
        parts(llava, batch).cache()


def test_latencies_are_named_by_rows(llava: Any, batch: dict[str, torch.Tensor]) -> None:
    names = [one.name for one in latencies(parts(llava, repeated(batch, 8)), repeats=6, warmup=1, tokens=2)]
    assert names == ["latency.vision.b8", "latency.prefill.b8", "latency.decode.b8"]
    found = latencies(parts(llava, repeated(batch, 1)), repeats=6, warmup=1, tokens=2)
    assert all(one.spread is not None and one.spread[0] <= one.value <= one.spread[1] for one in found)
    assert torch.equal(repeated(batch, 3)["pixel_values"][2], batch["pixel_values"][0])


@pytest.mark.parametrize("name", ["gemma3-vision", "idefics3", "paligemma", "paligemma2", "smolvlm"])
def test_models_whose_masks_follow_token_types_say_the_same_in_parts(name: str) -> None:
    model, batch = tiny.make(name)
    batch["labels"] = torch.full_like(batch["input_ids"], -100)
    found = parts(model, batch)
    with torch.no_grad():
        whole = model(**batch).logits[:, -1:]
    assert found.vision is not None
    assert torch.allclose(found.prefill(), whole, atol=1e-5)  # type: ignore[arg-type]
    del batch["labels"]
    net = Trimmed(anatomy.of(model), [Keep(score=lambda sight: -sight.stream.source.float(), budget=share(0.5))])
    with torch.no_grad():
        whole = net(**batch).logits[:, -1:]
    assert torch.allclose(parts(net, batch).prefill(), whole, atol=1e-5)  # type: ignore[arg-type]
