"""Accuracy on the same questions with pictures missing or corrupted, before and after, compared answer by answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trimtab.core.reading import Reading
from trimtab.data.sample import Sample
from trimtab.evaluate.paired import drop
from trimtab.evaluate.shares import accuracy
from trimtab.run import quality
from trimtab.run.context import Context
from trimtab.run.quality import Answers
from trimtab.run.views import views

CLEAN = "clean"
EACH_SIDE = 0.025  # both bounds together make an interval of 95 %


def asked(context: Context) -> list[Sample]:
    """The questions: at most as many as are asked of the pictures as they are, and a part of those; none where the
    recipe wants none or there is no picture."""
    task, given = context.recipe.task, context.recipe.evaluate
    count = min(given.robust.limit, task.limit or given.limit)
    if task.type == "text" or not count or not views(context):
        return []
    chosen = quality.asked(context, task, count)
    return chosen if any(one.open is not None for one in chosen) else []


def measure(context: Context, when: str) -> list[Reading]:
    """``accuracy.<task>.<view>`` of each view; after, of as many questions as before, where the clock ended that."""
    task, chosen, readings = context.recipe.task, asked(context), []
    for view in views(context) if chosen else ():
        old = quality.predictions(context, "before", task, view)
        part = chosen[: len(old)] if when == "after" else chosen
        found = quality.answers(context, when, task, part, view)
        readings.append(accuracy(_figure(context, view.name), found))
    return readings


def _figure(context: Context, name: str) -> str:
    return f"accuracy.{context.recipe.task.name}.{name}"


def compared(context: Context) -> list[dict[str, Any]]:
    """A row for the pictures as they are and for each view: the change of accuracy (after - before) with its paired
    95 % interval, and the flips. The readings of both sides become those of the questions that both have answered."""
    rows: list[dict[str, Any]] = []
    sides: dict[str, list[Reading]] = {"before": [], "after": []}
    for name, old, new in _pairs(context):
        found, figure = drop(old, new, EACH_SIDE), _figure(context, name)
        before, after = accuracy(figure, old), accuracy(figure, new)
        rows.append({"figure": figure, "view": name, "before": before.value, "after": after.value,
                     "change": 0.0 - found.value, "low": 0.0 - found.high, "high": 0.0 - found.low,
                     "flips": {"lost": found.lost, "gained": found.gained, "n": found.n}})  # fmt: skip
        sides["before"].append(before)
        sides["after"].append(after)
    for when, readings in sides.items() if rows else ():
        context.read(when, readings)
    return rows


def _pairs(context: Context) -> Iterator[tuple[str, Answers, Answers]]:
    """The name of a view and the answers to the same questions before and after; ``clean`` is picked out of what was
    asked anyway."""
    task, chosen = context.recipe.task, asked(context)
    if not chosen:
        return
    old, new = ({one.id: one for one in quality.predictions(context, when, task)} for when in ("before", "after"))
    both = [one.id for one in chosen if one.id in old and one.id in new]
    if both:
        yield CLEAN, [old[name] for name in both], [new[name] for name in both]
    for view in views(context):
        before, after = (quality.predictions(context, when, task, view) for when in ("before", "after"))
        yield view.name, before[: len(after)], after
