"""Quality of the model as it is now on a task: accuracy from journalled answers, or perplexity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

from trimtab.core.files import replacing
from trimtab.core.reading import Reading
from trimtab.data import text as texts
from trimtab.data.hashes import digest_of
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.perplexity import losses, perplexity
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.shares import accuracy
from trimtab.evaluate.vqa import arranged, longest, predict
from trimtab.run import baseline
from trimtab.run.context import Context
from trimtab.run.enough import Enough, clock, decided, never
from trimtab.run.journal import append, whole_lines
from trimtab.run.views import View

Answers = list[Prediction]


def tasks(context: Context) -> tuple[Task, ...]:
    """The run's task and those that are measured beside it."""
    return (context.recipe.task, *context.recipe.also)


def asked(context: Context, task: Task, limit: int | None = None) -> list[Sample]:
    """``limit`` of the task's test samples, by default as many as the recipe says; a smaller number is a subset."""
    most = limit if limit is not None else task.limit or context.recipe.evaluate.limit
    return arranged(samples(task, task.split, most, context.recipe.seed), context.recipe.evaluate.batch_size)


def data(context: Context) -> dict[str, str]:
    """By figure, SHA-256 of what it asks in this run: samples with their pictures by their ids, or the text. Figures of
    one name whose data differ do not compare."""
    found = {}
    for task in tasks(context):
        if task.type == "text":
            found[f"perplexity.{task.name}"] = texts.digest(texts.text_of(task, task.split))
        else:
            found[f"accuracy.{task.name}"] = digest_of(sorted(asked(context, task), key=lambda one: one.id))
    return found


def answers(
    context: Context, when: str, task: Task, chosen: Sequence[Sample], view: View | None = None, enough: Enough = never
) -> Answers:
    """The model's answers, to the pictures as they are or as ``view`` shows them, synced to ``state/answers`` batch by
    batch; those that are there are not asked again. They end early where ``enough`` says so, or the recipe's minutes
    are over."""
    name, given = label(when, task, view), context.recipe.evaluate
    path = _journal(context, name)
    tokens = min(given.max_new_tokens, longest(context.loaded.processor, chosen))
    entry = None
    if _shared(context, name):
        entry = baseline.of_samples(context, task, chosen, tokens, view)
        _take(context, entry, path, name)
    done = {row["id"]: Prediction(**row) for row in whole_lines(path)}
    over = clock(context)
    found = predict(
        context.loaded.model, context.loaded.processor, chosen, batch_size=given.batch_size, max_new_tokens=tokens,
        prompt=task.prompt, metric_name=task.metric, done=done, show=None if view is None else view.show,
    )  # fmt: skip
    every: Answers = []
    while part := list(islice(found, given.batch_size)):
        append(path, [asdict(one) for one in part if one.id not in done])
        every += part
        context.progress(name, len(every), len(chosen))
        if len(every) < len(chosen) and (enough(every) or over()):
            context.log.info("%s: ended after %d of %d", name, len(every), len(chosen))
            return every
    if entry is not None:
        baseline.keep(entry, path)
    return every


def _journal(context: Context, label: str) -> Path:
    path = context.folder.state / "answers" / f"{label.replace(' ', '-')}.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _shared(context: Context, label: str) -> bool:
    """Whether other runs may use it: it is of the untouched model."""
    return context.recipe.evaluate.reuse and label.startswith("before ")


def _take(context: Context, entry: Path, path: Path, label: str) -> None:
    if baseline.take(entry, path):
        context.reused.append(label)
        context.log.info("%s: taken from an earlier run (trimtab cache: baseline/%s)", label, entry.name)


def windows(context: Context, task: Task, label: str, limit: int | None = None) -> list[float]:
    """The loss of each evaluation window, synced as it is done."""
    path, text = _journal(context, label), texts.text_of(task, task.split)
    count = min(texts.WINDOWS, limit or task.limit or texts.WINDOWS)
    entry = baseline.of_text(context, texts.digest(text), count) if _shared(context, label) else None
    if entry is not None:
        _take(context, entry, path, label)
    done = {int(row["window"]): float(row["loss"]) for row in whole_lines(path)}
    over = clock(context)
    rows = texts.windows(text, context.loaded.tokenizer, count)
    every: list[float] = []
    for index, loss in enumerate(losses(context.loaded.model, rows, done=done)):
        if index not in done:
            append(path, [{"window": index, "loss": loss}])
        every.append(loss)
        context.progress(label, index + 1, count)
        if 1 < len(every) < count and over():  # one window bounds nothing
            context.log.info("%s: ended after %d of %d windows", label, index + 1, count)
            return every
    if entry is not None:
        baseline.keep(entry, path)
    return every


def measure(context: Context, when: str, task: Task, limit: int | None = None) -> Reading:
    """The quality reading of one task; what it is made of stays in ``state/answers`` under ``<when> <task>``."""
    if task.type == "text":
        most = len(stored(context, "before", task)) if when == "after" else limit
        return perplexity(f"perplexity.{task.name}", windows(context, task, label(when, task), most))
    chosen, enough = asked(context, task, limit), cast(Enough, never)
    if when == "after":  # as many as before, where the clock ended that
        old = predictions(context, "before", task)
        chosen, enough = chosen[: len(old)], decided(context, task, old)
    return accuracy(f"accuracy.{task.name}", answers(context, when, task, chosen, enough=enough))


def label(when: str, task: Task, view: View | None = None) -> str:
    """What a measurement is called in the journal of answers; no task's name has a dot in it."""
    return f"{when} {task.name}" + (f".{view.name}" if view is not None else "")


def stored(context: Context, when: str, task: Task, view: View | None = None) -> list[dict[str, Any]]:
    """What a finished measurement is made of: predictions, or windows with their losses, in the order of samples."""
    return whole_lines(_journal(context, label(when, task, view)))


def predictions(context: Context, when: str, task: Task, view: View | None = None) -> Answers:
    """The answers of a finished measurement of a task that has answers."""
    return [Prediction(**row) for row in stored(context, when, task, view)]


def publish(context: Context) -> None:
    """``predictions.jsonl``: answers of the run's own task before and after, for the user alone (mode 0600)."""
    task = context.recipe.task
    if task.type == "text":
        return
    old, new = stored(context, "before", task), stored(context, "after", task)
    rows = [
        {"id": one["id"], "before": one["text"], "after": other["text"], "was_correct": one["correct"],
         "correct": other["correct"]}
        for one, other in zip(old[: len(new)], new, strict=True)
    ]  # fmt: skip
    path = context.folder.predictions
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
