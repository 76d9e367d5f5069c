"""Answers of a model that generates: greedy, in batches, resumable, in the order of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from trimtab.data.sample import Sample
from trimtab.evaluate.metrics import metric
from trimtab.evaluate.prediction import Prediction, graded
from trimtab.evaluate.prompt import encode, render, tokenizer_of
from trimtab.evaluate.shared import share

Show = Callable[[Image.Image], Image.Image]

BATCHES_AHEAD = 8  # ``arranged`` sorts samples within so many batches
SPARE_TOKENS = 2  # beyond the longest reference answer: its end, and one more that makes a longer answer a wrong one


def predict(
    model: Any,
    processor: Any,
    samples: Sequence[Sample],
    *,
    batch_size: int = 32,
    max_new_tokens: int | None = None,
    prompt: str | None = None,
    metric_name: str = "exact",
    done: Mapping[str, Prediction] | None = None,
    show: Show | None = None,
) -> Iterator[Prediction]:
    """The greedy answer to each sample, in order; those in ``done`` (by id) are handed on and not asked again.

    A batch is so many samples in a row (see ``arranged``), done or not, so a resumed evaluation repeats an unbroken one
    bit for bit. ``max_new_tokens``: at most so many; None: as the longest reference answer needs. ``show`` makes what
    is shown of a picture, the same for the same one. Raises BadInput for a model that takes no pictures, an unreadable
    picture (with its row) or an unknown metric.
    """
    score, known = metric(metric_name), done or {}
    limit = max_new_tokens if max_new_tokens is not None else longest(processor, samples)
    for at in range(0, len(samples), batch_size):
        batch = samples[at : at + batch_size]
        if all(one.id in known for one in batch):
            yield from (known[one.id] for one in batch)
            continue
        texts = answer(model, processor, batch, limit, prompt, show)
        made = (graded(one, text, score) for one, text in zip(batch, texts, strict=True))
        yield from (known.get(one.id, one) for one in made)


def arranged(samples: Sequence[Sample], batch_size: int) -> list[Sample]:
    """Samples in an order that costs least: within ``BATCHES_AHEAD`` batches those of one picture lie together (their
    batch sees it once), then those of similar length. The order of a part that begins the result is that same part."""
    size = BATCHES_AHEAD * batch_size
    windows = (samples[at : at + size] for at in range(0, len(samples), size))
    return [one for window in windows for one in sorted(window, key=_cost)]


def _cost(sample: Sample) -> tuple[str, int]:
    return sample.picture or "", len(sample.question)


def longest(processor: Any, samples: Sequence[Sample]) -> int:
    """Tokens that the longest reference answer takes, and ``SPARE_TOKENS``."""
    every = list({text for one in samples for text in (one.answers or (one.answer,))})
    if not every:
        return SPARE_TOKENS
    ids = tokenizer_of(processor)(every, add_special_tokens=False)["input_ids"]
    return max(map(len, ids)) + SPARE_TOKENS


@torch.no_grad()
def answer(
    model: Any,
    processor: Any,
    samples: Sequence[Sample],
    max_new_tokens: int,
    prompt: str | None = None,
    show: Show | None = None,
) -> list[str]:
    """The greedy answers to one batch, decoded without special tokens; samples all have a picture or all have none."""
    images = _images(samples, show)
    rendered = [render(processor, one.question, int(one.open is not None), prompt) for one in samples]
    batch = encode(processor, [text for text, _ in rendered], images, rendered[0][1])
    batch = {name: value.to(model.device) for name, value in batch.items()}
    if images:
        batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
    words = tokenizer_of(processor)
    pad = words.pad_token_id if words.pad_token_id is not None else words.eos_token_id
    given = batch if not images else share(model, batch, [one.picture for one in samples])
    made = model.generate(**given, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, pad_token_id=pad)
    new = made[:, batch["input_ids"].shape[1] :]
    return [str(text).strip() for text in words.batch_decode(new, skip_special_tokens=True)]


def _images(samples: Sequence[Sample], show: Show | None) -> list[Image.Image]:
    """A picture for each sample; one that several ask about is opened once."""
    found: dict[str, Image.Image] = {}
    for one in samples:
        if one.open is not None and _picture(one) not in found:
            found[_picture(one)] = one.open() if show is None else show(one.open())
    images = [found[_picture(one)] for one in samples if one.open is not None]
    if images and len(images) != len(samples):
        raise ValueError("answer: got samples with and without a picture in one batch")
    return images


def _picture(sample: Sample) -> str:
    return sample.picture or f"of {sample.id}"
