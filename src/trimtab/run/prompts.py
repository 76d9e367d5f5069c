"""The prompts that a plan reckons with: the task's own where the model's processor is there, else some of its shape."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimtab.anatomy import Anatomy
from trimtab.core.errors import BadInput
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.prompt import encode, render, tokenizer_of
from trimtab.evaluate.vqa import SPARE_TOKENS, arranged, longest
from trimtab.measure.phases import words

WORDS = 32
"""Words of a question where there is no tokenizer to tell."""
LOOKED = 256
"""Samples whose answers are looked at."""
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Asked:
    """How a task is asked: ``count`` questions in batches of ``size``; pictures of a batch, ``shown`` on the mean;
    tokens of a batch's answers, ``said`` on the mean, the end included; ``prepared``: seconds of a question before the
    model sees it."""

    count: int
    size: int
    shown: float
    said: float
    prepared: float


def batch_of(anatomy: Anatomy, processor: Any, task: Task, size: int, length: int = 256) -> Batch:
    """``size`` prompts of ``task``; of ``length`` words each for a text. Raises BadInput where nothing says how many
    image tokens a prompt has."""
    if task.type == "text":
        return words(length, size)
    if processor is None:
        return drawn(anatomy, size)
    chosen = samples(task, task.split, size, 0)
    chosen = [chosen[index % len(chosen)] for index in range(size)]
    return encoded(processor, task, chosen)


def encoded(processor: Any, task: Task, chosen: Sequence[Sample]) -> Batch:
    """As an evaluation asks them."""
    images = [one.open() for one in chosen if one.open is not None]
    rendered = [render(processor, one.question, int(one.open is not None), task.prompt) for one in chosen]
    return encode(processor, [prompt for prompt, _ in rendered], images, rendered[0][1])


def drawn(anatomy: Anatomy, size: int) -> Batch:
    """A picture and ``WORDS`` words in each row, for a model whose config says all: one tower with one size of
    pictures, each patch a token. Raises BadInput for others."""
    config = anatomy.model.config
    vision, image = getattr(config, "vision_config", None), getattr(config, "image_token_id", None)
    side, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    plain = anatomy.INPUTS == ("pixel_values",) and anatomy.EVEN and isinstance(side, int) and isinstance(patch, int)
    if not plain or image is None:
        raise BadInput(f"plan: {config.model_type!r} has no processor beside it, and its config does not say how many "
                       "tokens a picture has; put the processor's files into the folder")  # fmt: skip
    assert isinstance(side, int)
    assert isinstance(patch, int)
    tokens = getattr(config, "image_seq_length", None) or (side // patch) ** 2
    ids = torch.cat([torch.full((size, tokens), image), torch.ones(size, WORDS, dtype=torch.long)], 1)
    pixels = torch.zeros(size, getattr(vision, "num_channels", 3), side, side)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def asked(processor: Any, task: Task, count: int, size: int, most: int) -> Asked:
    """From the task's own samples, some of which are prepared and timed."""
    found = samples(task, task.split, count, 0)
    chosen = arranged(found, size)
    batches = [chosen[at : at + size] for at in range(0, len(chosen), size)]
    shown = [len({one.picture or one.id for one in batch if one.open is not None}) for batch in batches]
    if processor is None:
        return Asked(len(chosen), size, sum(shown) / len(shown), 1.0 + SPARE_TOKENS, 0.0)
    tokenizer, some = tokenizer_of(processor), batches[0][:8]
    begun = time.perf_counter()
    encoded(processor, task, some)
    prepared = (time.perf_counter() - begun) / len(some)
    said = [1 + max(len(tokenizer(one.answer, add_special_tokens=False)["input_ids"]) for one in batch)
            for batch in batches[: max(1, LOOKED // size)]]  # fmt: skip
    limit = min(most, longest(processor, found))
    return Asked(len(chosen), size, sum(shown) / len(shown), min(limit, sum(said) / len(said)), prepared)
