"""Tiny models of Idefics3's layout: pictures of any size in a row, pixel-shuffled."""

from __future__ import annotations

import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    PreTrainedModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from trimtab.anatomy.tiny.base import (
    END,
    IMAGE_TOKEN,
    LENGTHS,
    PAD,
    TEXT,
    Batch,
    Padding,
    Tiny,
    padded,
    row,
)

VISION = {
    "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 4,
}  # fmt: skip
COUNTS = (2, 0, 1, 1)
"""Pictures of each row of a batch."""
SIZE, TOKENS = 16, 4
"""Pixels of a picture's side, 4 x 4 patches; 2 x 2 tokens."""
SHOWN = ((16, 16), (10, 16), (8, 13), (16, 3))
"""Pixels of each picture that are no padding: whole, parts of patches, one column of patches."""


def idefics3() -> PreTrainedModel:
    """Positions on a grid of 6 x 6, finer than the pictures."""
    return Idefics3ForConditionalGeneration(
        Idefics3Config(
            vision_config={**VISION, "image_size": 24}, text_config={"model_type": "llama", **TEXT}, scale_factor=2,
            image_token_id=IMAGE_TOKEN, tie_word_embeddings=False, pad_token_id=PAD, bos_token_id=1, eos_token_id=END,
        )
    )  # fmt: skip


def smolvlm() -> PreTrainedModel:
    """Positions on a grid of 4 x 4, the size of the pictures; a tied head."""
    text = {"model_type": "llama", **TEXT, "tie_word_embeddings": True}
    return SmolVLMForConditionalGeneration(
        SmolVLMConfig(
            vision_config={**VISION, "image_size": SIZE}, text_config=text, scale_factor=2,
            image_token_id=IMAGE_TOKEN, tie_word_embeddings=True, pad_token_id=PAD, bos_token_id=1, eos_token_id=END,
        )
    )  # fmt: skip


def batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """Two pictures in the first row, none in the second, one in the others; the rest are padding."""
    rows = [row(length, [TOKENS] * count) for count, length in zip(COUNTS, LENGTHS, strict=True)]
    pixels = torch.zeros(len(rows), max(COUNTS), 3, SIZE, SIZE)
    mask = torch.zeros(len(rows), max(COUNTS), SIZE, SIZE, dtype=torch.long)
    places = [(i, j) for i, count in enumerate(COUNTS) for j in range(count)]
    for place, (high, wide) in zip(places, SHOWN, strict=True):
        pixels[place][:, :high, :wide] = torch.randn(3, high, wide)
        mask[place][:high, :wide] = 1
    return padded(rows, padding) | {"pixel_values": pixels, "pixel_attention_mask": mask}


MODELS = {
    "idefics3": Tiny(idefics3, batch, pictures=True),
    "smolvlm": Tiny(smolvlm, batch, pictures=True),
}
