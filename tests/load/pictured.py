"""The library's own processors for the tiny models that look at pictures, with a tokenizer made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    BitImageProcessorPil,
    GotOcr2ImageProcessorPil,
    InternVLProcessor,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
    PreTrainedTokenizerFast,
)

from trimtab.anatomy.tiny import PATCHES
from trimtab.anatomy.tiny.tiles import GRIDS, MOST, SHUFFLED, SIZES
from trimtab.load.processors import images_only

TALKING = ("llava-next", "llava-onevision", "internvl")
SPECIAL = ("<img>", "</img>", "<video>", "<image>")
TEXTS = ("w5 <image> w6 w7 <image> w8 w9", "w10 w11 <image> w12 w13 w14 w15 w16 w17")


def tokenizer() -> PreTrainedTokenizerFast:
    """96 words as the tiny models have them, the last of which stands for a picture's tokens."""
    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, 92)), *SPECIAL]
    bare = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="w3"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = ("start_image_token", "end_image_token", "video_token", "image_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens=dict(zip(roles, SPECIAL, strict=True)) | {"context_image_token": "<image>"},
    )  # fmt: skip


def processor(name: str) -> Any:
    """What belongs to the tiny model of that name. The ones that also read videos are made without that half."""
    words, twelve = tokenizer(), {"height": 12, "width": 12}
    if name == "llava-next":
        images = LlavaNextImageProcessorPil(size={"shortest_edge": 12}, crop_size=twelve, image_grid_pinpoints=GRIDS)
        return LlavaNextProcessor(
            images, words, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
        )
    if name == "llava-onevision":
        images = LlavaOnevisionImageProcessorPil(size=twelve, image_grid_pinpoints=GRIDS)
        return images_only(LlavaOnevisionProcessor)(
            images, words, num_image_tokens=PATCHES, vision_feature_select_strategy="full",
            vision_aspect_ratio=f"anyres_max_{MOST}",
        )  # fmt: skip
    if name == "internvl":
        images = GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, max_patches=3)
        return images_only(InternVLProcessor)(images, words, image_seq_length=SHUFFLED)
    return BitImageProcessorPil(size={"shortest_edge": 14}, crop_size=twelve)


def picture(number: int) -> Image.Image:
    """Noise of the size of that number."""
    high, wide = SIZES[number]
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (high, wide, 3), dtype=np.uint8))


def prompt(made: Any, texts: Sequence[str] = TEXTS) -> dict[str, Tensor]:
    """Two pictures in the first row and one in the second, which is padded; three pictures for a tower alone."""
    if not hasattr(made, "tokenizer"):
        return dict(made(images=[picture(n) for n in (0, 1, 2)], return_tensors="pt"))
    images = [[picture(0), picture(1)], [picture(2)]]
    return dict(made(text=list(texts), images=images, padding=True, return_tensors="pt"))
