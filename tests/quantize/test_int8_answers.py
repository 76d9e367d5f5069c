"""What the catalogue asks of 8-bit integers, on the built-in model, which was trained: under a point of accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from trimtab.core.fit import Fit
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.prompt import encode, render
from trimtab.evaluate.vqa import arranged, longest, predict
from trimtab.load import Loaded, open_source
from trimtab.quantize import W8A8, W8A8Static
from trimtab.run.walk import walk
from trimtab.run.weigh import maker

QUESTIONS, CALIBRATION = 48, 8
TASK = Task.parse({"type": "vqa", "dataset": "easyvqa-grid"})
"""The harder of the two that it was trained on."""


def seen(loaded: Loaded) -> Iterator[dict[str, torch.Tensor]]:
    """Questions of the training side with their answers."""
    chosen = samples(TASK, "train", CALIBRATION, 0)
    asked = [render(loaded.processor, one.question, 1, TASK.prompt) for one in chosen]
    pictures = [one.open() for one in chosen if one.open is not None]
    text = [prompt + one.answer for (prompt, _), one in zip(asked, chosen, strict=True)]
    batch = dict(encode(loaded.processor, text, pictures, asked[0][1]))
    yield batch | {"pixel_values": batch["pixel_values"].to(loaded.library.dtype)}


def right(fit: Fit | None) -> int:
    """How many questions the model answers, all of its linears trimmed by ``fit``."""
    loaded = open_source("builtin:easyvqa-llava", dtype="bfloat16")
    if fit is not None:
        make = maker(loaded.anatomy, fit, "pooled", None)
        walk(loaded.anatomy, seen(loaded), fit, ["language", "vision", "projector", "head"], make=make)
    loaded.lower()
    most = longest(loaded.processor, questions())
    found = predict(loaded.model, loaded.processor, questions(), batch_size=QUESTIONS, max_new_tokens=most)
    return sum(one.correct for one in found)


@cache
def questions() -> list[Sample]:
    return arranged(samples(TASK, "test", QUESTIONS, 0), QUESTIONS)


@pytest.fixture(scope="module", name="untouched")
def _untouched() -> int:
    return right(None)


@pytest.mark.parametrize("fit", [W8A8(), W8A8Static()], ids=lambda fit: fit.CARD.name)
def test_in_8_bits_less_than_a_point_of_accuracy_is_lost(fit: Fit, untouched: int) -> None:
    """Of held-out questions: the inputs' scales are taken at each token, or are fixed from the largest in calibration.
    Fails where inputs are rounded to few levels, and where fixed scales clip (KL's lose more than a tenth)."""
    assert untouched > 0.9 * QUESTIONS
    assert (untouched - right(fit)) / QUESTIONS < 0.01
