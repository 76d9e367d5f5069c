"""Tiny models of every family at random weights, and batches that are awkward on purpose, for tests and rehearsals."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from trimtab.anatomy.tiny import clip, dinov2, idefics, language, qwenvl, siglip, speech, tiles
from trimtab.anatomy.tiny.base import END, IMAGE_TOKEN, PAD, TEXT, VOCABULARY, Batch, Padding, Tiny, randomize
from trimtab.anatomy.tiny.clip import PATCHES, VISION
from trimtab.core.errors import unknown

__all__ = ["END", "IMAGE_TOKEN", "MODELS", "PAD", "PATCHES", "TEXT", "VISION", "VOCABULARY", "Batch", "Padding", "Tiny",
           "batch", "make", "randomize"]  # fmt: skip

ROOMS = (language, clip, qwenvl, siglip, idefics, tiles, dinov2, speech)
MODELS: dict[str, Tiny] = dict(sorted((name, one) for room in ROOMS for name, one in room.MODELS.items()))


def make(name: str, padding: Padding = "left", seed: int = 0) -> tuple[PreTrainedModel, Batch]:
    """A seeded tiny model of the family, and a batch for it. Raises BadInput for an unknown name."""
    if name not in MODELS:
        raise unknown("tiny model", name, MODELS)
    before = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = MODELS[name].model().eval()
    randomize(model)
    made = MODELS[name].batch(model, padding)
    torch.random.set_rng_state(before)
    return model, made


def batch(name: str, model: PreTrainedModel, padding: Padding = "left") -> Batch:
    """Another batch for a model that was made as ``name``."""
    return MODELS[name].batch(model, padding)
