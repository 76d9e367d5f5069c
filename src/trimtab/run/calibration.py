"""The batches that calibration sees: the task's own training side, prompts with their answers, pictures included."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from trimtab import methods
from trimtab.core.errors import BadInput
from trimtab.data import text as texts
from trimtab.data.builtin import BUILTIN
from trimtab.data.hashes import sample_hashes
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.prompt import encode, render
from trimtab.run import audit as audits
from trimtab.run.context import Context
from trimtab.run.targets import select

Batch = dict[str, Tensor]
LAYERWISE = ("quantize", "prune", "factorize")
TASK_SAMPLES = 32  # of the task's own, to know its share of image tokens


def source(context: Context) -> Task:
    """The task that calibration draws from: the run's own, or the built-in data set that ``calibrate`` names."""
    given = context.recipe.calibrate
    task = context.recipe.task
    if given.dataset is None or given.dataset == task.dataset:
        return task
    return Task.parse({"type": BUILTIN[given.dataset].type, "dataset": given.dataset} if given.dataset in BUILTIN else
                      {"type": task.type, "dataset": given.dataset})  # fmt: skip


def batches(context: Context) -> list[Batch]:
    """``num_samples`` samples in batches. The same for the same recipe and data, in a fixed order."""
    given, task = context.recipe.calibrate, source(context)
    if task.type == "text":
        words = context.loaded.tokenizer
        length = min(given.max_seq_length, _positions(context))
        rows = texts.windows(texts.text_of(task, given.split), words, given.num_samples, length)
        return [text_batch(rows[at : at + given.batch_size]) for at in range(0, len(rows), given.batch_size)]
    chosen = samples(task, given.split, given.num_samples, given.seed)
    return [_vqa(context, task, chosen[at : at + given.batch_size], given.max_seq_length)
            for at in range(0, len(chosen), given.batch_size)]  # fmt: skip


def _positions(context: Context) -> int:
    return int(getattr(context.loaded.library.config.get_text_config(), "max_position_embeddings", 1 << 30))


def text_batch(ids: Tensor) -> Batch:
    """Rows of words that are all as long."""
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _vqa(context: Context, task: Task, chosen: Sequence[Sample], most: int) -> Batch:
    """Prompts with their answers behind them. Raises BadInput where one is longer than ``most`` tokens."""
    processor = context.loaded.processor
    images = [one.open() for one in chosen if one.open is not None]
    rendered = [render(processor, one.question, int(one.open is not None), task.prompt) for one in chosen]
    written = [prompt + one.answer for (prompt, _), one in zip(rendered, chosen, strict=True)]
    batch = encode(processor, written, images, rendered[0][1])
    if batch["input_ids"].shape[1] > most:
        raise BadInput(f"calibrate.max_seq_length: got {most}; the longest sample has {batch['input_ids'].shape[1]} "
                       "tokens, pictures included, and cutting it would cut pictures")  # fmt: skip
    if "pixel_values" in batch:
        batch["pixel_values"] = batch["pixel_values"].to(context.loaded.library.dtype)
    return batch


def sample_batch(context: Context, count: int, part: str | None = None, first: int = 0) -> Batch:
    """``count`` samples of the run's task as one padded batch, from the calibration side unless ``part`` says else."""
    return task_batch(context, context.recipe.task, count, part or context.recipe.calibrate.split, first)


def task_batch(
    context: Context, task: Task, count: int, part: str, first: int = 0, length: int = 64, again: bool = False
) -> Batch:
    """Samples ``first`` to ``first + count`` of a task with their answers, as many as there are, empty for none;
    windows of ``length`` tokens for a text. ``again``: a set that has fewer is gone through once more."""
    if task.type == "text":
        rows = texts.windows(texts.text_of(task, part), context.loaded.tokenizer, first + count, length)[first:]
        return text_batch(rows[torch.arange(count) % len(rows)] if again else rows)
    chosen = samples(task, part, first + count, context.recipe.seed)[first:]
    chosen = [chosen[index % len(chosen)] for index in range(count)] if again and chosen else chosen
    return _vqa(context, task, chosen, 1 << 30) if chosen else {}


def audit(context: Context, made: Sequence[Batch]) -> dict[str, Any]:
    """What calibration will see, held against the task before any fitting. Raises Refused where it is blind."""
    names = needing(context)
    found = audits.NOT_NEEDED
    if names:
        anatomy = context.loaded.anatomy
        counts = audits.count(anatomy, made)
        like = audits.count(anatomy, [sample_batch(context, TASK_SAMPLES, context.recipe.task.split)])
        layers = audits.expected(anatomy, counts, names)
        found = audits.audit(counts, like, layers, context.recipe.calibrate.allow)
    return asdict(found) | {"hashes": _hashes(context)}


def needing(context: Context) -> list[str]:
    """The layers on which some step needs calibration data, in the model's order."""
    anatomy = context.loaded.anatomy
    chosen: set[str] = set()
    for step in context.recipe.steps:
        card = methods.get(step.method).CARD
        if card.family in LAYERWISE and card.needs != "nothing":
            chosen |= set(select(anatomy, step.targets or ("all-linear",), step.ignore))
    return [name for name, _ in (*anatomy.embeddings(), *anatomy.linears()) if name in chosen]


def _hashes(context: Context) -> list[str]:
    """A hash of each sample, keyed by a hash of them all: who holds the data can tell which were used, nobody else."""
    task, given = source(context), context.recipe.calibrate
    if task.type == "text":
        return [texts.digest(texts.text_of(task, given.split))]
    chosen = samples(task, given.split, given.num_samples, given.seed)
    key = hashlib.sha256("".join(sample_hashes(b"trimtab", chosen)).encode()).digest()
    return sample_hashes(key, chosen)
