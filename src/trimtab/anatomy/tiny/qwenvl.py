"""Tiny Qwen-VL models, and pictures of several sizes whose patches are packed as their processor packs them."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

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

SIZES = ((1, 4, 6), (2, 2, 4), (1, 6, 10), (1, 8, 4))
"""Frames, rows and columns of each picture, in patches; two pictures are in the first row of a batch."""
PATCHED: dict[str, Any] = {"num_heads": 3, "patch_size": 2, "temporal_patch_size": 2, "spatial_merge_size": 2}
VISION: dict[str, Any] = {
    **PATCHED, "hidden_size": 24, "intermediate_size": 32, "out_hidden_size": TEXT["hidden_size"],
}  # fmt: skip
TOKENS: dict[str, Any] = {
    "image_token_id": IMAGE_TOKEN, "video_token_id": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 1,
    "eos_token_id": END,
}  # fmt: skip


def qwen2_vl() -> PreTrainedModel:
    """Sliding windows over words, tied embeddings, and the rotary settings as they stand in published files."""
    vision = {**PATCHED, "depth": 2, "embed_dim": 24, "hidden_size": TEXT["hidden_size"], "mlp_ratio": 2}
    rotary = {"rope_theta": 100.0, "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}}
    windows = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2}
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            vision_config=vision, text_config={**TEXT, **rotary, **windows, "tie_word_embeddings": True},
            tie_word_embeddings=True, **TOKENS,
        )
    )  # fmt: skip


def qwen2_5_vl() -> PreTrainedModel:
    """Windows of 2 x 2 tokens in the tower's first and last layer."""
    rotary = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [1, 2, 1]}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            vision_config={**VISION, "depth": 3, "window_size": 8, "fullatt_block_indexes": [1]},
            text_config={**TEXT, "rope_parameters": rotary, "tie_word_embeddings": False}, **TOKENS,
        )
    )  # fmt: skip


def qwen3_vl() -> PreTrainedModel:
    """Heads wider than hidden / heads, features of two depths, places resampled from a table of 5 x 5."""
    rotary = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 2, 2], "mrope_interleaved": True}
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            vision_config={**VISION, "depth": 4, "num_position_embeddings": 25, "deepstack_visual_indexes": [0, 2]},
            text_config={**TEXT, "head_dim": 12, "attention_bias": True, "rope_parameters": rotary,
                         "tie_word_embeddings": False}, **TOKENS,
        )
    )  # fmt: skip


def batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """Two pictures in the first row, none in the second, one in the others."""
    vision = model.config.vision_config
    tokens = [prod(size) // vision.spatial_merge_size**2 for size in SIZES]
    shown = [tokens[:2], [], tokens[2:3], tokens[3:]]
    rows = [row(length, each) for each, length in zip(shown, LENGTHS, strict=True)]
    made = padded(rows, padding)
    width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    return made | {
        "pixel_values": torch.randn(sum(map(prod, SIZES)), width), "image_grid_thw": torch.tensor(SIZES),
        "mm_token_type_ids": (made["input_ids"] == IMAGE_TOKEN).long(),
    }  # fmt: skip


MODELS = {
    "qwen2-vl": Tiny(qwen2_vl, batch, pictures=True, positions=False),
    "qwen2.5-vl": Tiny(qwen2_5_vl, batch, pictures=True, positions=False),
    "qwen3-vl": Tiny(qwen3_vl, batch, pictures=True, positions=False),
}
