"""The gradients of the answers' loss at what leaves each decoder block, taken once, on the model as it came.

A batch goes forward once; then block by block from the end, each is run again with a graph and handed the gradient of
what left it. Only one block's graph is ever in memory, beside the hidden states between blocks; no weight gets a
gradient. Sums are float64, in the order of the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from trimtab import methods
from trimtab.anatomy import Anatomy
from trimtab.anatomy.base import Batch
from trimtab.core.errors import Anomaly, Refused
from trimtab.core.keep import Stream
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import KINDS, PADDING, TEXT
from trimtab.data.tasks import samples
from trimtab.evaluate.prompt import tokenizer_of
from trimtab.run import calibration, teach
from trimtab.run.context import Context

STAGE = "sensitivity"
ROWS = 8
"""Samples that go through a block with its graph at once."""
COLUMNS = 16
"""Places of each row whose logits are in memory at once."""
Taught = tuple[Batch, Integer[Tensor, "b t"]]
"""A batch, and for each place the token that is to follow it, -1 where none is asked for."""


def measure(
    anatomy: Anatomy, taught: Iterable[Taught], progress: Callable[[int], None] = lambda rows: None
) -> Sensitivity:
    """The means over all batches. Raises Refused for a model that generates no text, Anomaly where a gradient is no
    number or the loss does not reach the words of a block."""
    if not anatomy.decodes:
        raise Refused(f"calibrate.weigh: {anatomy.model.config.model_type!r} does not generate text, and sensitivity "
                      "is that of the next word's loss; accepted for it: pooled")  # fmt: skip
    points = len(anatomy.layers()) + 1
    absolute, square = torch.zeros(2, points, len(KINDS), dtype=torch.float64)
    seen = torch.zeros(len(KINDS), dtype=torch.int64)
    for batch, labels in taught:
        for point, (stream, gradient) in zip(reversed(range(points)), gradients(anatomy, batch, labels), strict=True):
            kinds = torch.where(stream.valid, stream.kinds, PADDING)
            for kind in set(kinds.unique().tolist()) - {PADDING}:
                rows = gradient[kinds == kind].double()
                absolute[point, kind] += rows.abs().mean(1).sum()
                square[point, kind] += rows.square().mean(1).sum()
                seen[kind] += len(rows) if point == 0 else 0
        progress(len(labels))
    words = absolute[:, TEXT]
    if not absolute.isfinite().all() or not square.isfinite().all() or not (words > 0).all():
        sizes = ", ".join(f"{one:.1e}" for one in words.tolist())
        raise Anomaly(f"sensitivity: the gradients of the answers' loss over text, block by block, are {sizes}; they "
                      "must be numbers above 0")  # fmt: skip
    names = tuple(anatomy.blocks()[index].name for index in anatomy.layers())
    count = seen.clamp(min=1)
    return Sensitivity(names, absolute / count, square / count, tuple(seen.tolist()))


@torch.no_grad()
def gradients(
    anatomy: Anatomy, batch: Batch, labels: Integer[Tensor, "b t"]
) -> Iterator[tuple[Stream, Float[Tensor, "b t d"]]]:
    """What leaves the last decoder block with dL/dx, then what enters each, from the last to the first."""
    blocks = [anatomy.blocks()[index] for index in anatomy.layers()]
    streams = [anatomy.embed(batch)]
    for block in blocks:
        streams.append(block(streams[-1]))
    stream = streams.pop()
    gradient = _of_head(anatomy, stream, labels)
    yield stream, gradient
    for block in reversed(blocks):
        stream = streams.pop()
        x = stream.x.detach().requires_grad_()
        with torch.enable_grad():
            out = block(replace(stream, x=x)).x
        (gradient,) = torch.autograd.grad(out, x, gradient)
        yield stream, gradient


def _of_head(anatomy: Anatomy, stream: Stream, labels: Integer[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
    """dL/dx of what enters the head; places that nothing is asked of have 0."""
    gradient = torch.zeros_like(stream.x)
    asked = (labels >= 0).any(0).nonzero()[:, 0]
    for columns in torch.split(asked, COLUMNS):
        index = columns.expand(len(labels), -1)
        part, wanted = stream.gather(index, stream.valid.gather(1, index)), labels.gather(1, index)
        x = part.x.detach().requires_grad_()
        with torch.enable_grad():
            logits = anatomy.head(replace(part, x=x))
            loss = F.cross_entropy(logits[wanted >= 0].float(), wanted[wanted >= 0], reduction="sum")
        (gradient[:, columns],) = torch.autograd.grad(loss, x)
    return gradient


def taught(context: Context) -> Iterator[Taught]:
    """The samples of calibration with their answers, in small batches, the places of the answers labelled; for a text
    every token is one."""
    given, task = context.recipe.calibrate, calibration.source(context)
    if task.type == "text":
        for batch in calibration.batches(context):
            for ids in batch["input_ids"].split(ROWS):
                yield calibration.text_batch(ids), F.pad(ids[:, 1:], (0, 1), value=-1)
        return
    chosen = samples(task, given.split, given.num_samples, given.seed)
    words = tokenizer_of(context.loaded.processor)
    lessons = [teach.lesson(one, words) for one in chosen]
    for at in range(0, len(lessons), ROWS):
        batch, answers = teach.batch(context, task, lessons[at : at + ROWS])
        labels = torch.full_like(batch["input_ids"], -1)
        labels[:, -answers.shape[1] - 1 : -1] = answers
        yield batch, labels


def wanted(context: Context) -> bool:
    """Whether this run weighs tokens by it, or has a method that needs it."""
    given = context.recipe.calibrate
    needs = {methods.get(step.method).CARD.needs for step in context.recipe.steps}
    return given.ablation or given.weigh == "balanced" or "gradients" in needs


def take(context: Context) -> Sensitivity | None:
    """The run's one estimate: from its journal, or measured now on the model as it stands (before any step). None where
    nothing wants it."""
    return estimate(context) if wanted(context) else None


def estimate(context: Context) -> Sensitivity:
    """The run's one estimate, whatever wants it."""
    total, done = context.recipe.calibrate.num_samples, 0

    def progress(rows: int) -> None:
        nonlocal done
        done += rows
        context.progress(STAGE, done, total)

    def work() -> dict[str, Any]:
        return measure(context.loaded.anatomy, taught(context), progress).row()

    return Sensitivity.of(context.journal.stage(STAGE, work))
