"""The figures of a run: before, after each step, and of the artifact as it reloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trimtab.core.reading import Reading
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.blind import predict_blind
from trimtab.evaluate.paired import ALPHA, drop, more_samples
from trimtab.evaluate.perplexity import perplexity
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.ratio import more_repeats, of_windows
from trimtab.evaluate.sequential import level
from trimtab.evaluate.shares import accuracy
from trimtab.measure import params
from trimtab.measure.activations import stand_ins
from trimtab.measure.parts import activations, arithmetic
from trimtab.measure.vlm import parts
from trimtab.run import calibration, enough, quality, robustness
from trimtab.run.context import Context


def cost(context: Context) -> tuple[list[Reading], dict[str, Any]]:
    """What is counted: parameters, stored bytes of the weights, operations and activation memory of vision, prefill and
    decode at batch 1; and the operations by part of the model and by operator."""
    loaded, batch = context.loaded, calibration.sample_batch(context, 1, context.recipe.task.split)
    with loaded.reference():
        found = parts(loaded.model, batch)
        counted = arithmetic(loaded.library, found, loaded.anatomy.part_of)
        done = [Reading(f"flops.{name}", float(sum(row["operators"].values())), "flop")
                for name, row in counted.items()]  # fmt: skip
        with stand_ins([host for _, host in loaded.anatomy.linears()]):
            return [*params.readings(loaded.library), *done, *activations(found)], counted


def before(context: Context) -> dict[str, Any]:
    """Quality of the model as it came, also on worse pictures, its control and its costs; a hash of what was asked."""
    readings, counted = cost(context)
    readings += [quality.measure(context, "before", task) for task in quality.tasks(context)]
    readings += robustness.measure(context, "before")
    readings += control(context)
    context.read("before", readings)
    source = context.loaded.source
    return {"model": {"id": source.id, "license": source.license, "kind": source.kind, "revision": source.revision,
                      "streamed": context.loaded.streamed,
                      "parameters": params.parameters(context.loaded.library)},
            "reused": context.reused, "arithmetic": counted,
            "data": quality.data(context)}  # fmt: skip


def streamed(context: Context) -> bool:
    """Whether the model's matrices were read from its files as they were needed, which no time and no peak of memory
    says anything of."""
    return bool(context.journal.ended["before"]["result"]["model"].get("streamed"))


def control(context: Context) -> list[Reading]:
    """The table that answers without looking."""
    task = context.recipe.task
    if task.type == "text":
        return []
    train = samples(task, context.recipe.calibrate.split, 1 << 30, context.recipe.seed)
    rows = predict_blind(train, quality.asked(context, task), task.metric)
    return [accuracy(f"accuracy.{task.name}.blind_table", rows)]


def after_step(context: Context, when: str, earlier: str) -> dict[str, Any]:
    """Quality on a part of the test, and bytes; what was gained since ``earlier``, the step before or "before". The
    kernels are taken away again: later steps see the reference."""
    count = context.recipe.evaluate.after_step
    readings = [Reading("bytes.weights", float(params.stored(context.loaded.library)), "bytes")]
    if count:
        context.loaded.lower()
        readings.append(quality.measure(context, when, context.recipe.task, count))
        context.loaded.unlower()
    context.read(when, readings)
    return {"gain": gained(context, when, earlier) if count else None}


def gained(context: Context, when: str, earlier: str) -> dict[str, Any] | None:
    """The change of accuracy on the samples that both have answered, with its two-sided 95 % interval, by pairs; None
    for a text, or where there are none."""
    task = context.recipe.task
    if task.type == "text":
        return None
    known = {one.id: one for one in _answers(quality.stored(context, earlier, task))}
    new = [one for one in _answers(quality.stored(context, when, task)) if one.id in known]
    if not new:
        return None
    lost = drop([known[one.id] for one in new], new, ALPHA / 2)
    return {"since": earlier, "value": -lost.value, "low": -lost.high, "high": -lost.low, "n": lost.n}


def after(context: Context) -> dict[str, Any]:
    """Quality and cost of what reloaded from the artifact, compared sample by sample with what it was before."""
    readings, counted = cost(context)
    readings = [one for one in readings if one.name != "bytes.weights"]
    said = context.loaded.manifest
    assert said is not None
    readings.append(Reading("bytes.weights", float(said.bytes), "bytes"))  # the file, not only the tensors in it
    readings += [quality.measure(context, "after", task) for task in quality.tasks(context)]
    readings += robustness.measure(context, "after")
    context.read("after", readings)
    _as_many(context)
    quality.publish(context)
    found = {task.name: compared(context, task) for task in quality.tasks(context)}
    main = found[context.recipe.task.name]
    return {"quality": {row["figure"]: row for row in found.values()}, "flips": main["flips"], "arithmetic": counted,
            "robust": robustness.compared(context)}  # fmt: skip


def _as_many(context: Context) -> None:
    """Take the figure before on the samples that were also asked after, where that ended earlier."""
    for task in quality.tasks(context):
        old, new = quality.stored(context, "before", task), quality.stored(context, "after", task)
        if len(new) == len(old):
            continue
        if task.type == "text":
            reading = perplexity(f"perplexity.{task.name}", [row["loss"] for row in old[: len(new)]])
        else:
            reading = accuracy(f"accuracy.{task.name}", _answers(old[: len(new)]))
        context.read("before", [reading])


def compared(context: Context, task: Task) -> dict[str, Any]:
    """The change of a task's quality with its one-sided bounds: a drop of accuracy, or a ratio of perplexities."""
    old, new = quality.stored(context, "before", task), quality.stored(context, "after", task)
    old, main = old[: len(new)], task is context.recipe.task
    limits = context.recipe.budget.amounts()
    if task.type == "text":
        ratio = of_windows([row["loss"] for row in old], [row["loss"] for row in new])
        name, limit = f"perplexity.{task.name}", limits.get("perplexity")
        more = more_repeats(ratio, limit.value, len(new)) if limit and main else None
        row = {"unit": "x", "change": ratio.value, "low": ratio.low, "high": ratio.high, "same": 1.0,
               "more_samples": more, "flips": None}  # fmt: skip
    else:
        due = enough.plan(context, task, len(quality.stored(context, "before", task)))
        lost = drop(_answers(old), _answers(new), level(due, len(new)) if due else ALPHA)
        name, limit = f"accuracy.{task.name}", limits.get("accuracy")
        more = more_samples(lost, limit.value) if limit and main else None
        row = {"unit": "share", "change": lost.value, "low": lost.low, "high": lost.high, "same": 0.0,
               "more_samples": more, "flips": {"lost": lost.lost, "gained": lost.gained, "n": lost.n}}  # fmt: skip
    figures = {when: (context.figure(when, name) or {"value": None})["value"] for when in ("before", "after")}
    return {"figure": name, "main": main, **figures, **row}


def _answers(rows: Sequence[dict[str, Any]]) -> list[Prediction]:
    return [Prediction(**row) for row in rows]
