"""Tiny models that see through SigLIP's tower: itself with and without texts, PaliGemma and Gemma 3 with vision."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
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

VISION = {
    "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 3,
    "image_size": 14, "patch_size": 4,
}  # fmt: skip
"""3 x 3 patches; two rows and columns of a picture fill none."""
TOWER = {"model_type": "siglip_vision_model", **VISION}
COUNTS = (2, 0, 1, 1)
"""Pictures of each row of a batch."""
TOKENS = 9
"""Image tokens of a picture, as PaliGemma and Gemma 3 read them: more than the window of a layer that has one."""
ANSWER = 4
"""Words of each row that PaliGemma reads in order."""


def siglip() -> PreTrainedModel:
    text = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 24, "projection_size": 24,
        "eos_token_id": END, "bos_token_id": 1, "pad_token_id": PAD,
    }  # fmt: skip
    return SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))


def vision(head: bool = True) -> PreTrainedModel:
    return SiglipVisionModel(SiglipVisionConfig(**VISION, vision_use_head=head))


def paligemma(kind: str = "gemma", image: int = VOCABULARY) -> PreTrainedModel:
    """``image`` is no word of the vocabulary unless it is below ``VOCABULARY``. The tower has a head that nothing runs,
    with ``gemma2`` none."""
    more: dict[str, dict[str, Any]] = {
        "gemma": {"num_key_value_heads": 1},
        "gemma2": {"sliding_window": 5, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 1.5,
                   "final_logit_softcapping": 20.0},
    }  # fmt: skip
    return PaliGemmaForConditionalGeneration(
        PaliGemmaConfig(
            vision_config={**TOWER, "vision_use_head": kind == "gemma"},
            text_config={"model_type": kind, **TEXT, **more[kind], "tie_word_embeddings": True},
            image_token_index=image, projection_dim=TEXT["hidden_size"], hidden_size=TEXT["hidden_size"],
            tie_word_embeddings=True, pad_token_id=PAD, bos_token_id=1, eos_token_id=END,
        )
    )  # fmt: skip


def gemma3(image: int = IMAGE_TOKEN) -> PreTrainedModel:
    """7 x 7 patches pooled to 3 x 3 tokens, the last row and column left out."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            vision_config={**TOWER, "image_size": 30, "vision_use_head": False},
            text_config={**TEXT, "sliding_window": 5, "query_pre_attn_scalar": 12, "layer_types": kinds,
                         "final_logit_softcapping": 20.0, "tie_word_embeddings": True},
            mm_tokens_per_image=TOKENS, image_token_index=image, boi_token_index=93, eoi_token_index=94,
            tie_word_embeddings=True, pad_token_id=PAD, bos_token_id=1, eos_token_id=END,
        )
    )  # fmt: skip


def pictures(model: PreTrainedModel, count: int) -> torch.Tensor:
    config = getattr(model.config, "vision_config", model.config)
    return torch.randn(count, 3, config.image_size, config.image_size)


def siglip_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """Fewer pictures than texts."""
    return padded([row(length) for length in LENGTHS[:3]], padding) | {"pixel_values": pictures(model, 2)}


def vision_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    return {"pixel_values": pictures(model, 3)}


def seeing_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """Two pictures in the first row, none in the second, one in the others; token types as the family's processor
    gives them."""
    image = model.config.image_token_id
    rows = [row(length, [TOKENS] * count, image) for count, length in zip(COUNTS, LENGTHS, strict=True)]
    batch = padded(rows, padding)
    if model.config.model_type == "paligemma":
        said = [[0] * (len(one) - ANSWER) + [1] * ANSWER for one in rows]
        types = padded(said, padding)["input_ids"]
    else:
        types = (batch["input_ids"] == image).long()
    return batch | {"pixel_values": pictures(model, sum(COUNTS)), "token_type_ids": types}


MODELS = {
    "gemma3-vision": Tiny(gemma3, seeing_batch, pictures=True),
    "paligemma": Tiny(paligemma, seeing_batch, pictures=True),
    "paligemma2": Tiny(partial(paligemma, "gemma2", IMAGE_TOKEN), seeing_batch, pictures=True),
    "siglip": Tiny(siglip, siglip_batch, answer="logits_per_image", decodes=False),
    "siglip-vision": Tiny(vision, vision_batch, answer="pooler_output", decodes=False),
    "siglip-vision-headless": Tiny(
        partial(vision, head=False), vision_batch, answer="last_hidden_state", decodes=False
    ),
}
