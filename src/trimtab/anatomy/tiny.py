"""Tiny models of every family at random weights, and batches that are awkward on purpose, for tests and rehearsals.

Weights are larger than the library's initial ones and nothing is left at 0 or 1, so that a lost mask, norm, bias or
scale shows in the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trimtab.core.errors import unknown

Batch = dict[str, Tensor]
Padding = Literal["left", "right"]
VOCABULARY, IMAGE_TOKEN, END, PAD = 96, 95, 2, 0
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
    "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": END,
}  # fmt: skip
VISION = {
    "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3,
    "image_size": 12, "patch_size": 4, "projection_dim": 16,
}  # fmt: skip
PATCHES = 9


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**TEXT, attention_bias=True, tie_word_embeddings=False))


def mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**TEXT, sliding_window=5, tie_word_embeddings=False))


def qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(
        Qwen2Config(**TEXT, use_sliding_window=True, sliding_window=5, max_window_layers=2, tie_word_embeddings=True)
    )


def qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**TEXT, tie_word_embeddings=False))


def gemma3() -> PreTrainedModel:
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            **TEXT, sliding_window=5, query_pre_attn_scalar=12, tie_word_embeddings=True,
            layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
            final_logit_softcapping=20.0,
        )
    )  # fmt: skip


def llava(layer: int = -1, strategy: str = "default") -> PreTrainedModel:
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config={"model_type": "clip_vision_model", **VISION},
            text_config={"model_type": "llama", **TEXT, "tie_word_embeddings": False},
            image_token_index=IMAGE_TOKEN, vision_feature_layer=layer, vision_feature_select_strategy=strategy,
            image_seq_length=PATCHES, tie_word_embeddings=False,
            pad_token_id=PAD, bos_token_id=1, eos_token_id=END,
        )
    )  # fmt: skip


def clip() -> PreTrainedModel:
    text = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 24, "projection_dim": 16,
        "eos_token_id": VOCABULARY - 1, "bos_token_id": 1, "pad_token_id": PAD,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))


def bert() -> PreTrainedModel:
    return BertModel(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=64, pad_token_id=PAD,
        )
    )  # fmt: skip


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": bert,
    "clip": clip,
    "gemma3": gemma3,
    "llama": llama,
    "llava": llava,
    "llava-full": lambda: llava(strategy="full"),
    "llava-penultimate": lambda: llava(layer=-2),
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
}


def make(name: str, padding: Padding = "left", seed: int = 0) -> tuple[PreTrainedModel, Batch]:
    """A seeded tiny model of the family, and a batch for it. Raises BadInput for an unknown name."""
    if name not in MODELS:
        raise unknown("tiny model", name, MODELS)
    before = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = MODELS[name]().eval()
    randomize(model)
    made = batch(model, padding)
    torch.random.set_rng_state(before)
    return model, made


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Matrices of about unit gain; biases, norms and positions well away from 0 and 1."""
    for value in model.parameters():
        if value.ndim >= 2:
            value.normal_(std=1.5 * (value[0].numel() ** -0.5))
        elif value.ndim == 1:
            value.add_(0.3 * torch.randn_like(value))


def batch(model: PreTrainedModel, padding: Padding = "left") -> Batch:
    """Rows of different lengths; for LLaVA two pictures in the first, none in the second, one in the others."""
    pictures = {"llava": [2, 0, 1, 1], "clip": [1, 1, 1]}.get(model.config.model_type, [0, 0, 0, 0])
    per_row = placeholders(model)
    rows = [_row(model, count, per_row, length) for count, length in zip(pictures, (7, 14, 5, 11), strict=False)]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        where = slice(longest - len(row), longest) if padding == "left" else slice(0, len(row))
        ids[i, where], mask[i, where] = torch.tensor(row), 1
    made = {"input_ids": ids, "attention_mask": mask}
    if sum(pictures):
        size = VISION["image_size"]
        made["pixel_values"] = torch.randn(sum(pictures), 3, size, size)
    return made


def placeholders(model: PreTrainedModel) -> int:
    """Image tokens for each picture in the prompt."""
    if model.config.model_type != "llava":
        return 0
    return PATCHES + int(model.config.vision_feature_select_strategy == "full")


def _row(model: PreTrainedModel, pictures: int, per_row: int, length: int) -> list[int]:
    words = torch.randint(3, VOCABULARY - 1, (length,)).tolist()
    row = [1]
    for _ in range(pictures):
        row += [IMAGE_TOKEN] * per_row + words[:1]
    row += words
    return [*row, VOCABULARY - 1] if model.config.model_type == "clip" else row
