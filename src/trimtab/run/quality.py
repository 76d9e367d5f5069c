"""Quality of the model as it is now on a task: accuracy from journalled answers, or perplexity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from trimtab.core.files import replacing
from trimtab.core.reading import Reading
from trimtab.data import text as texts
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.perplexity import losses, perplexity
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.shares import accuracy
from trimtab.evaluate.vqa import longest, predict
from trimtab.run.context import Context
from trimtab.run.journal import append, whole_lines

Answers = list[Prediction]


def tasks(context: Context) -> tuple[Task, ...]:
    """The run's task and those that are measured beside it."""
    return (context.recipe.task, *context.recipe.also)


def asked(context: Context, task: Task, limit: int | None = None) -> list[Sample]:
    """``limit`` of the task's test samples, by default as many as the recipe says; a smaller number is a subset."""
    most = limit if limit is not None else task.limit or context.recipe.evaluate.limit
    return samples(task, task.split, most, context.recipe.seed)


def answers(context: Context, task: Task, chosen: Sequence[Sample], label: str, missing: bool = False) -> Answers:
    """The model's answers, synced to ``state/answers`` batch by batch; those that are there are not asked again."""
    path = context.folder.state / "answers" / f"{label.replace(' ', '-')}.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = {row["id"]: Prediction(**row) for row in whole_lines(path)}
    given = context.recipe.evaluate
    tokens = min(given.max_new_tokens, longest(context.loaded.processor, chosen))
    found = predict(
        context.loaded.model, context.loaded.processor, chosen, batch_size=given.batch_size, max_new_tokens=tokens,
        prompt=task.prompt, metric_name=task.metric, done=done, missing_image=missing,
    )  # fmt: skip
    every: Answers = []
    for at in range(0, len(chosen), given.batch_size):
        part = list(islice(found, given.batch_size))
        append(path, [asdict(one) for one in part if one.id not in done])
        every += part
        context.progress(label, min(at + given.batch_size, len(chosen)), len(chosen))
    return every


def windows(context: Context, task: Task, label: str, limit: int | None = None) -> list[float]:
    """The loss of each evaluation window, synced as it is done."""
    path = context.folder.state / "answers" / f"{label.replace(' ', '-')}.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = {int(row["window"]): float(row["loss"]) for row in whole_lines(path)}
    count = min(texts.WINDOWS, limit or task.limit or texts.WINDOWS)
    rows = texts.windows(texts.text_of(task, task.split), context.loaded.tokenizer, count)
    every: list[float] = []
    for index, loss in enumerate(losses(context.loaded.model, rows, done=done)):
        if index not in done:
            append(path, [{"window": index, "loss": loss}])
        every.append(loss)
        context.progress(label, index + 1, count)
    return every


def measure(context: Context, when: str, task: Task, limit: int | None = None) -> Reading:
    """The quality reading of one task; what it is made of stays in ``state/answers`` under ``<when> <task>``."""
    label = f"{when} {task.name}"
    if task.type == "text":
        return perplexity(f"perplexity.{task.name}", windows(context, task, label, limit))
    return accuracy(f"accuracy.{task.name}", answers(context, task, asked(context, task, limit), label))


def stored(context: Context, when: str, task: Task) -> list[dict[str, Any]]:
    """What a finished measurement is made of: predictions, or windows with their losses, in the order of samples."""
    path = context.folder.state / "answers" / f"{when} {task.name}.jsonl".replace(" ", "-")
    return whole_lines(path)


def publish(context: Context) -> None:
    """``predictions.jsonl``: answers of the run's own task before and after, for the user alone (mode 0600)."""
    task = context.recipe.task
    if task.type == "text":
        return
    old, new = stored(context, "before", task), stored(context, "after", task)
    rows = [
        {"id": one["id"], "before": one["text"], "after": other["text"], "was_correct": one["correct"],
         "correct": other["correct"]}
        for one, other in zip(old, new, strict=True)
    ]  # fmt: skip
    path = context.folder.predictions
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
