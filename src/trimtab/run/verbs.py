"""``trimtab eval`` and ``trimtab bench``: one model measured by the same code as in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from trimtab.core.errors import BadInput
from trimtab.core.reading import Reading
from trimtab.data import text as texts
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.perplexity import losses, perplexity
from trimtab.evaluate.prompt import encode, render
from trimtab.evaluate.shares import accuracy
from trimtab.evaluate.vqa import arranged, predict
from trimtab.load.loaded import Loaded
from trimtab.load.sources import open_source
from trimtab.measure.vlm import latencies, parts
from trimtab.run.init import guessed

BATCH = 64  # questions
T = TypeVar("T")
Told = Callable[[str, int, int], None]


def quality(model: str, dataset: str | None, data: Path | None, limit: int, progress: Told) -> Reading:
    """Accuracy or perplexity of ``model`` on ``limit`` test samples (windows) of a built-in data set or a file, whose
    columns are guessed as ``trimtab init`` does."""
    task = Task.parse({"dataset": dataset}) if dataset is not None else guessed(data or Path())[0]
    loaded = open_source(model)
    if task.type == "text":
        count = min(limit, texts.WINDOWS)
        rows = texts.windows(texts.text_of(task, task.split), loaded.tokenizer, count)
        return perplexity(f"perplexity.{task.name}", _told(losses(loaded.model, rows), progress, count))
    chosen = arranged(samples(task, task.split, limit), BATCH)
    found = predict(loaded.model, loaded.processor, chosen, batch_size=BATCH, prompt=task.prompt,
                    metric_name=task.metric)  # fmt: skip
    return accuracy(f"accuracy.{task.name}", _told(found, progress, len(chosen)))


def _told(found: Iterable[T], progress: Told, count: int) -> list[T]:
    every = []
    for number, one in enumerate(found, 1):
        every.append(one)
        progress("eval", number, count)
    return every


def speed(model: str, batch_size: int, repeats: int) -> list[Reading]:
    """Vision, prefill and decode of ``model`` at batch 1 and ``batch_size``, on easyvqa-grid or on text."""
    loaded = open_source(model)
    if loaded.streamed:
        raise BadInput("bench: the model is read from its files as it is needed, and would be timed with the disk; "
                       "accepted: a model that fits in memory")  # fmt: skip
    readings = []
    for size in sorted({1, batch_size}):
        readings += latencies(parts(loaded.model, _prompts(loaded, size)), repeats=repeats)
    return readings


def _prompts(loaded: Loaded, size: int) -> dict[str, Tensor]:
    if not loaded.library.can_generate():
        raise BadInput(f"bench: {type(loaded.library).__name__} does not generate; it times prefill and decode")
    if loaded.image_backend is None:
        rows = texts.windows(texts.evaluation(), loaded.tokenizer, size, 256)
        return {"input_ids": rows, "attention_mask": rows.new_ones(rows.shape)}
    chosen: list[Sample] = samples(Task.parse({"dataset": "easyvqa-grid"}), "test", size)
    rendered = [render(loaded.processor, one.question, 1) for one in chosen]
    images = [one.open() for one in chosen if one.open is not None]
    batch = encode(loaded.processor, [text for text, _ in rendered], images, rendered[0][1])
    batch["pixel_values"] = batch["pixel_values"].to(loaded.library.dtype)
    return batch
