"""Real processors around a tokenizer of whole words and the PIL image processors, for tiny models that see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma3Processor,
    Idefics3Processor,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipProcessor,
    SmolVLMProcessor,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

Batch = dict[str, torch.Tensor]
WORDS = 60


def tokenizer(**named: str) -> PreTrainedTokenizerFast:
    """Words w0 to w59 and the ``named`` special tokens, all below 96."""
    special = ["<pad>", "<s>", "</s>", "<unk>", *named.values()]
    vocabulary = {word: number for number, word in enumerate([*special, *(f"w{i}" for i in range(WORDS))])}
    bare = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        padding_side="left", model_input_names=["input_ids", "attention_mask"], extra_special_tokens=named,
    )  # fmt: skip


def siglip() -> SiglipProcessor:
    return SiglipProcessor(SiglipImageProcessorPil(size={"height": 14, "width": 14}), tokenizer())


def paligemma() -> PaliGemmaProcessor:
    images = SiglipImageProcessorPil(size={"height": 14, "width": 14})
    images.image_seq_length = 9
    return PaliGemmaProcessor(images, tokenizer(image_token="<image>"))


def gemma3() -> Gemma3Processor:
    """Wide pictures are shown in two crops besides."""
    images = Gemma3ImageProcessorPil(
        size={"height": 30, "width": 30}, do_pan_and_scan=True, pan_and_scan_min_crop_size=8,
        pan_and_scan_max_num_crops=2, pan_and_scan_min_ratio_to_activate=1.2,
    )  # fmt: skip
    words = tokenizer(boi_token="<boi>", eoi_token="<eoi>", image_token="<soft>")
    return Gemma3Processor(images, words, image_seq_length=9)


TAGS = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>", "end_token": "<end_of_utterance>"}
SPLIT = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}
"""Pictures are made 32 wide or high and shown in squares of 16, and once more as a whole."""


def idefics3() -> Idefics3Processor:
    return Idefics3Processor(Idefics3ImageProcessorPil(**SPLIT), tokenizer(**TAGS), image_seq_len=4)


def smolvlm() -> SmolVLMProcessor:
    """Without its half for video, which torchvision and num2words are needed for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing_smolvlm, "num2words", str)
        patch.setattr(SmolVLMProcessor, "check_argument_for_proper_class", lambda *_: None)
        return SmolVLMProcessor(SmolVLMImageProcessorPil(**SPLIT), tokenizer(**TAGS), None, image_seq_len=4)


PROCESSORS: dict[str, Callable[[], Any]] = {
    "gemma3-vision": gemma3,
    "idefics3": idefics3,
    "paligemma": paligemma,
    "smolvlm": smolvlm,
}
"""By the name of the tiny model that reads what the processor gives."""


NUMPY = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
"""PaliGemma's processor makes labels of tensors by way of numpy, which warns."""


def image_id(processor: Any) -> int:
    """The id of the words that stand for a picture."""
    return int(getattr(processor.tokenizer, "image_token_id", processor.image_token_id))


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Random colours, ``size`` wide and high."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.frombytes("RGB", size, values.numpy().tobytes())
