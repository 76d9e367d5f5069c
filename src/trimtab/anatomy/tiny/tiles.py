"""Tiny models that look at pictures in tiles: LLaVA-NeXT, LLaVA-OneVision and InternVL."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
)

from trimtab.anatomy.tiny.base import END, IMAGE_TOKEN, LENGTHS, PAD, TEXT, Batch, Padding, Tiny, padded, row
from trimtab.anatomy.tiny.clip import PATCHES, VISION
from trimtab.anatomy.views import View, overview, view

SIDE, TILE = 3, 12
SIZES = ((10, 37), (36, 6), (25, 15), (13, 13))
"""Height and width of each picture: borders above and below, at both sides, at both sides of 2 x 2 tiles, and none."""
GRIDS = [[12, 24], [24, 12], [24, 24], [36, 12]]
MOST = 2
SPECIAL = {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": END}
SHUFFLED = 4
"""Image tokens of one of InternVL's tiles."""


def llava_next() -> PreTrainedModel:
    return LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            vision_config={"model_type": "clip_vision_model", **VISION},
            text_config={"model_type": "mistral", **TEXT, "sliding_window": 7, "tie_word_embeddings": False},
            image_token_index=IMAGE_TOKEN, vision_feature_layer=-2, image_grid_pinpoints=GRIDS,
            image_seq_length=PATCHES, tie_word_embeddings=False, **SPECIAL,
        )
    )  # fmt: skip


def llava_onevision() -> PreTrainedModel:
    vision = {name: value for name, value in VISION.items() if name != "projection_dim"}
    text = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2, "tie_word_embeddings": False}
    return LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config={"model_type": "siglip_vision_model", **vision, "vision_use_head": False},
            text_config={"model_type": "qwen2", **TEXT, **text},
            image_token_index=IMAGE_TOKEN, video_token_index=IMAGE_TOKEN - 1, image_grid_pinpoints=GRIDS,
            vision_aspect_ratio=f"anyres_max_{MOST}", tie_word_embeddings=False, **SPECIAL,
        )
    )  # fmt: skip


def internvl(text: str = "qwen2", tie: bool = True, layer: int = -1, **vision: Any) -> PreTrainedModel:
    """Norms, biases and layer scales wherever the configuration has them, a final norm in the tower (of which the
    hidden states of an earlier layer know nothing), and a tied head."""
    tower = {
        "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3,
        "image_size": [16, 16], "patch_size": [4, 4], "attention_bias": True, "use_qk_norm": True,
        "norm_type": "rms_norm", "use_mask_token": True, "use_mean_pooling": False,
    }  # fmt: skip
    return InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config={"model_type": "internvl_vision", **tower, **vision},
            text_config={"model_type": text, **TEXT, "tie_word_embeddings": tie},
            image_token_id=IMAGE_TOKEN, image_seq_length=SHUFFLED, vision_feature_layer=layer,
            tie_word_embeddings=tie, **SPECIAL,
        )
    )  # fmt: skip


def tiled_batch(views: list[View], padding: Padding) -> Batch:
    """Two pictures in the first row, none in the second, one in the others. The tiles that fill up are noise too."""
    first, second, third, fourth = (one.tokens for one in views)
    rows = [row(n, each) for n, each in zip(LENGTHS, [[first, second], [], [third], [fourth]], strict=True)]
    pixels = torch.randn(len(views), max(one.tiles for one in views), 3, TILE, TILE)
    return padded(rows, padding) | {"pixel_values": pixels, "image_sizes": torch.tensor(SIZES)}


def next_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    return tiled_batch([view(size, GRIDS, TILE, SIDE) for size in SIZES], padding)


def large_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """Every picture as if it were the only one of its prompt; two of them have more patches than ``MOST`` tiles."""
    return tiled_batch([view(size, GRIDS, TILE, SIDE, MOST) for size in SIZES], padding)


def onevision_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """The first row's two pictures are overviews alone."""
    shown = [overview(SIDE)] * 2 + [view(size, GRIDS, TILE, SIDE, MOST) for size in SIZES[2:]]
    return tiled_batch(shown, padding) | {"batch_num_images": torch.tensor([2, 1, 1])}


def internvl_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """Two pictures in the first row, one of them of three tiles, none in the second, one in the others."""
    tiles = [[3, 1], [], [2], [1]]
    rows = [row(n, [SHUFFLED * k for k in each]) for n, each in zip(LENGTHS, tiles, strict=True)]
    return padded(rows, padding) | {"pixel_values": torch.randn(sum(map(sum, tiles)), 3, 16, 16)}


MODELS = {
    "internvl": Tiny(internvl, internvl_batch, pictures=True),
    "internvl-layer": Tiny(
        partial(
            internvl, "qwen3", False, -2,
            attention_bias=False, use_qk_norm=False, norm_type="layer_norm", use_mask_token=False,
            use_absolute_position_embeddings=False,
        ),
        internvl_batch,
        pictures=True,
    ),
    "llava-next": Tiny(llava_next, next_batch, pictures=True),
    "llava-onevision": Tiny(llava_onevision, onevision_batch, pictures=True),
    "llava-onevision-large": Tiny(llava_onevision, large_batch, pictures=True),
}  # fmt: skip
