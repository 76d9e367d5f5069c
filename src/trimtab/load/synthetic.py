"""Batches of noise pictures, tones and fixed sentences: gate samples that anybody may see."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from trimtab.core.errors import BadInput

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "What is shown here, and which colour has it?",
    "Twelve ships left the harbour at dawn; three of them came back, and nobody ever said why the others did not.",
    "yes",
)


def batches(processor: Any, count: int = 2, seed: int = 0) -> list[dict[str, Tensor]]:
    """``count`` batches of four rows of different lengths, padded, a picture in each row where the model has eyes, a
    second of sound where it has ears; four pictures alone for a model that has nothing else.

    Raises BadInput where there is no processor to make them with.
    """
    return [batch(processor, [" ".join([sentence] * (number + 1)) for sentence in SENTENCES], seed + 100 * number)
            for number in range(count)]  # fmt: skip


def batch(processor: Any, texts: Sequence[str], seed: int = 0) -> dict[str, Tensor]:
    """A row for each text, padded to one length; only the first where the tokenizer has no padding. Raises as
    ``batches`` does."""
    if processor is None:
        raise BadInput("gate samples: the model has no processor or tokenizer; give batches of your own")
    words = getattr(processor, "tokenizer", processor)
    if not hasattr(words, "pad_token"):
        return dict(processor(images=[_noise(seed + row) for row in range(len(texts))], return_tensors="pt"))
    padded = words.pad_token is not None
    texts = list(texts) if padded else list(texts[:1])
    if hasattr(processor, "feature_extractor"):
        return _heard(processor, texts, padded, seed)
    options: dict[str, Any] = {"return_tensors": "pt", "padding": padded}
    if hasattr(processor, "image_processor"):
        options["images"] = [[_noise(seed + row)] for row in range(len(texts))]
        token = getattr(processor, "image_token", None)
        texts = [f"{token}\n{text}" if token else text for text in texts]
    found = processor(text=texts, **options)
    return {name: value for name, value in found.items() if name != "labels"}


def _heard(processor: Any, texts: list[str], padded: bool, seed: int) -> dict[str, Tensor]:
    """Sound for an encoder, padded to its length, and sentences for a decoder, padded to theirs."""
    ears = processor.feature_extractor
    tones = [_tones(seed + row, ears.sampling_rate) for row in range(len(texts))]
    words = processor.tokenizer(texts, padding=padded, return_tensors="pt")
    return {
        **ears(tones, sampling_rate=ears.sampling_rate, return_tensors="pt"),
        **{f"decoder_{name}": value for name, value in words.items()},
    }


def _tones(seed: int, rate: int) -> Any:
    """A second of three sines, float32 (rate,)."""
    generator = random.Random(seed)
    pitches = np.array([[generator.uniform(80, 2000)] for _ in range(3)])
    return np.sin(2 * np.pi * pitches * np.arange(rate) / rate).mean(0).astype(np.float32)


def _noise(seed: int) -> Image.Image:
    """A picture of 6 x 6 random squares: unlike noise by the pixel, it survives resizing."""
    generator = random.Random(seed)
    return Image.frombytes("RGB", (6, 6), generator.randbytes(108)).resize((96, 96), Image.Resampling.NEAREST)
