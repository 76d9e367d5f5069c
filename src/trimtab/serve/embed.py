"""Embeddings of texts and pictures, of length 1: what CLIP's towers meet in, a sentence's mean state, a tower's pooled
one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from trimtab.evaluate.embedding import mean_pooled
from trimtab.load.loaded import Loaded
from trimtab.serve.errors import ApiError, bad
from trimtab.serve.lengths import over

BATCH = 32
WHOLE = ("siglip",)
"""Architectures whose texts are filled up to the model's length, as they were trained."""

Item = list[int] | Image.Image


def ids_of(loaded: Loaded, text: str, most: int) -> list[int]:
    """Raises ApiError 400 for a model that reads no texts, or fewer tokens at once, or for more than ``most``."""
    if loaded.tokenizer is None:
        raise bad("input: this model embeds pictures; accepted: image_url parts", "input")
    room = _room(loaded, most)
    if over(loaded.tokenizer, text, room):
        raise _too_long(f"more than {room}", room)
    whole = {"padding": "max_length"} if loaded.library.config.model_type in WHOLE else {}
    return checked(loaded, loaded.tokenizer(text, **whole)["input_ids"], most)


def checked(loaded: Loaded, ids: list[int], most: int) -> list[int]:
    """Raises ApiError 400 for tokens that are none, or are too many."""
    words, room = getattr(loaded.library.config.get_text_config(), "vocab_size", 0), _room(loaded, most)
    if not ids or max(ids) >= words:
        raise bad(f"input: accepted: one token or more, of 0 to {words - 1}", "input")
    if len(ids) > room:
        raise _too_long(str(len(ids)), room)
    return ids


def _room(loaded: Loaded, most: int) -> int:
    made: int | None = getattr(loaded.library.config.get_text_config(), "max_position_embeddings", None)
    return most if made is None else min(most, made)


def _too_long(count: str, most: int) -> ApiError:
    return bad(f"input: a text has {count} tokens; accepted: at most {most}", "input", "context_length_exceeded")


def embedded(loaded: Loaded, items: Sequence[Item]) -> Float[Tensor, "n d"]:
    """One row for each item, in their order. Texts of one length share a call, so none is filled up."""
    found: dict[int, Tensor] = {}
    groups: dict[Any, list[int]] = {}
    for at, item in enumerate(items):
        groups.setdefault(len(item) if isinstance(item, list) else "picture", []).append(at)
    for places in groups.values():
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            found |= dict(zip(part, _together(loaded, [items[at] for at in part]), strict=True))
    return torch.stack([found[at] for at in range(len(items))])


def _together(loaded: Loaded, items: Sequence[Any]) -> Float[Tensor, "n d"]:
    if isinstance(items[0], Image.Image):
        return _pictures(loaded, items)
    ids, library = torch.tensor(items), loaded.library
    mask = torch.ones_like(ids)
    features = getattr(library, "get_text_features", None)
    if features is None:
        return mean_pooled(library(input_ids=ids, attention_mask=mask).last_hidden_state.float(), mask)
    given = {} if library.config.model_type in WHOLE else {"attention_mask": mask}
    return _unit(features(input_ids=ids, **given))


def _pictures(loaded: Loaded, images: Sequence[Image.Image]) -> Float[Tensor, "n d"]:
    seeing = getattr(loaded.processor, "image_processor", loaded.processor)
    pixels = seeing(images=list(images), return_tensors="pt")["pixel_values"].to(loaded.library.dtype)
    features = getattr(loaded.library, "get_image_features", loaded.library)
    return _unit(features(pixel_values=pixels))


def _unit(found: Any) -> Float[Tensor, "n d"]:
    """Of pooled states, or of the first one where the library pools none."""
    if not isinstance(found, Tensor):
        pooled = getattr(found, "pooler_output", None)
        found = found.last_hidden_state[:, 0] if pooled is None else pooled
    return F.normalize(found.float(), dim=-1)
