"""When an evaluation may end before its last sample: its minutes are over, or a look that was set before decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from trimtab.data.task import Task
from trimtab.evaluate.paired import decision, drop
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.sequential import Look, looks
from trimtab.run.context import Context

Enough = Callable[[Sequence[Prediction]], bool]


def never(found: Sequence[Prediction]) -> bool:
    """Ask every sample."""
    return False


def clock(context: Context) -> Callable[[], bool]:
    """Whether the recipe's minutes for one evaluation, which begins now, are over."""
    minutes, begun = context.recipe.evaluate.max_minutes, time.monotonic()
    return lambda: minutes is not None and time.monotonic() - begun > 60 * minutes


def plan(context: Context, task: Task, n: int) -> tuple[Look, ...]:
    """The looks at ``n`` samples of the run's own task, none where the recipe does not ask for them."""
    if context.recipe.evaluate.until is None or task is not context.recipe.task:
        return ()
    return looks(n, context.recipe.evaluate.batch_size)


def decided(context: Context, task: Task, old: Sequence[Prediction]) -> Enough:
    """Whether a look that is due decides on the budget's drop of accuracy from ``old``, the answers before."""
    levels = {look.n: look.alpha for look in plan(context, task, len(old))}
    limit = context.recipe.budget.amounts().get("accuracy")

    def enough(new: Sequence[Prediction]) -> bool:
        if limit is None or len(new) not in levels:
            return False
        found = drop(old[: len(new)], new, levels[len(new)])
        return decision(found, limit.value) != "inconclusive"

    return enough
