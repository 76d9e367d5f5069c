"""Tiny models with CLIP's vision tower: CLIP itself, and LLaVA at three settings of its feature layer."""

from __future__ import annotations

from functools import partial

import torch
from transformers import CLIPConfig, CLIPModel, LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

from trimtab.anatomy.tiny.base import (
    END,
    IMAGE_TOKEN,
    LENGTHS,
    PAD,
    TEXT,
    VOCABULARY,
    Batch,
    Padding,
    Tiny,
    padded,
    row,
)

VISION = {
    "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3,
    "image_size": 12, "patch_size": 4, "projection_dim": 16,
}  # fmt: skip
PATCHES = 9


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


def pictures(count: int) -> torch.Tensor:
    size = VISION["image_size"]
    return torch.randn(count, 3, size, size)


def llava_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """Two pictures in the first row, none in the second, one in the others."""
    each = PATCHES + int(model.config.vision_feature_select_strategy == "full")
    rows = [row(length, [each] * count) for count, length in zip([2, 0, 1, 1], LENGTHS, strict=True)]
    return padded(rows, padding) | {"pixel_values": pictures(4)}


def clip_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    rows = [[*row(length), VOCABULARY - 1] for length in LENGTHS[:3]]
    return padded(rows, padding) | {"pixel_values": pictures(3)}


MODELS = {
    "clip": Tiny(clip, clip_batch, answer="logits_per_image", decodes=False),
    "llava": Tiny(llava, llava_batch, pictures=True),
    "llava-full": Tiny(partial(llava, strategy="full"), llava_batch, pictures=True),
    "llava-penultimate": Tiny(partial(llava, layer=-2), llava_batch, pictures=True),
}
