"""A recipe's budget as goals of a search: how far a point is from meeting each, and which of them binds.

A goal is met as in a run's verdict, where the bound of the figure meets it and not its value alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.core.errors import BadInput
from trimtab.run.amounts import Amount
from trimtab.run.recipe import Recipe
from trimtab.run.search.point import Outcome, Point

LEAST = 0.01
"""Of accuracy: a drop that is allowed to be less counts as if it were so much where distances are compared."""
COSTS = {"weights": "bytes.weights", "prefill": "latency.prefill.b{b}", "decode": "latency.decode.b1",
         "cache": "bytes.cache.b1"}  # fmt: skip
"""Axes of a budget whose figure is a cost that a search takes."""
NOT_TAKEN = ("memory",)
"""Axes that need a process of their own: a run measures them, a search does not."""


@dataclass(frozen=True)
class Goal:
    """``figure`` may be ``limit`` at most, in its own unit; ``text`` as the budget says it. The figure of accuracy is
    what was lost."""

    axis: str
    figure: str
    limit: float
    text: str

    def violation(self, outcome: Outcome) -> float | None:
        """By which share of the limit the bound is above it, 0 or less where it is met; None where it was not taken."""
        if self.axis == "accuracy":
            scale = max(self.limit, LEAST)
            return None if outcome.lost is None else (outcome.lost.high - self.limit) / scale
        found = outcome.values.get(self.figure)
        return None if found is None else found.high / self.limit - 1

    def planned(self, values: Mapping[str, float]) -> float | None:
        """The same of figures that are only foreseen."""
        return values[self.figure] / self.limit - 1 if self.figure in values else None


def goals(recipe: Recipe, before: Mapping[str, float]) -> tuple[Goal, ...]:
    """The goals of a recipe; ``before``: the untouched model's figures, its bytes in 16 bits among them. Raises
    BadInput for a budget on what a search does not take, or of a task without answers."""
    found = []
    for axis, amount in recipe.budget.amounts().items():
        if axis == "perplexity":
            raise BadInput("budget.perplexity: a search counts right answers; accepted: a task of type vqa or classify")
        if axis in NOT_TAKEN:
            continue
        name = "accuracy" if axis == "accuracy" else COSTS[axis].format(b=recipe.measure.batch_size)
        key = "max_drop" if axis == "accuracy" else "max"
        found.append(Goal(axis, name, _limit(amount, before.get(name)), f"{axis}.{key} {amount.text}"))
    return tuple(found)


def _limit(amount: Amount, before: float | None) -> float:
    return amount.value * before if amount.unit == "x" and before is not None else amount.value


def violations(given: Sequence[Goal], outcome: Outcome) -> dict[str, float]:
    """By axis, of the goals whose figures were taken."""
    found = {goal.axis: goal.violation(outcome) for goal in given}
    return {axis: value for axis, value in found.items() if value is not None}


def meets(given: Sequence[Goal], outcome: Outcome) -> bool:
    """Whether a complete point meets every goal."""
    found = violations(given, outcome)
    return outcome.state == "complete" and len(found) == len(given) and all(value <= 0 for value in found.values())


def distance(given: Sequence[Goal], outcome: Outcome) -> float:
    """The sum of what is violated; infinite where a figure was not taken."""
    found = violations(given, outcome)
    return sum(max(0.0, value) for value in found.values()) if len(found) == len(given) else float("inf")


@dataclass(frozen=True)
class Binding:
    """The point that comes nearest to a budget which none meets, and the goal that it misses by most."""

    goal: Goal
    point: Point
    by: float


def binding(given: Sequence[Goal], points: Sequence[Point]) -> Binding | None:
    """What binds; None where a point meets all, or none was measured as far as the goals ask."""
    measured = [point for point in points if distance(given, point.outcome) < float("inf")]
    if not measured or any(meets(given, point.outcome) for point in points):
        return None
    nearest = min(measured, key=lambda point: distance(given, point.outcome))
    found = violations(given, nearest.outcome)
    goal = max(given, key=lambda goal: found[goal.axis])
    return Binding(goal, nearest, found[goal.axis])
