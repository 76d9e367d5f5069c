"""When a point has been asked enough: at looks that were set before, it surely breaks the budget, or is surely beaten.

Before any question a point's bytes and seconds are known, and with them which complete points are smaller and faster:
of these the one that is right most often is its rival. At each look, with levels that add to 5 % for each test:

    broken     the lower bound of the drop from the untouched model is above what the budget allows
    beaten     the lower bound of the drop from the rival is above 0, or even if every question that is left were
               answered rightly, it would not be right more often than the rival (which needs no bound)

Levels are divided over the looks (Bonferroni, ``evaluate/sequential.py``), so stopping early is wrong no oftener than
asking all. What was answered by then is the point's estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.evaluate.paired import drop
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.sequential import Look
from trimtab.run.search.point import Bounds, Objective, Point

Answers = Sequence[Prediction]


@dataclass(frozen=True)
class Rival:
    """A complete point that is smaller and faster, and its answers to all questions."""

    number: int
    answers: Answers


def rival(values: dict[str, Bounds], points: Sequence[Point], given: Sequence[Objective]) -> Point | None:
    """Of the complete ``points`` that are surely at least as good in every cost, and surely better in one, the one of
    the best quality; None where there is none."""
    costs = [one.name for one in given if one.goal == "min"]
    quality = next(one.name for one in given if one.goal == "max")
    found = [point for point in points if point.outcome.state == "complete" and _under(point, values, costs)]
    return max(found, key=lambda point: point.outcome.values[quality].value, default=None)


def _under(point: Point, values: dict[str, Bounds], costs: Sequence[str]) -> bool:
    theirs = point.outcome.values
    sure = all(theirs[name].high <= values[name].low for name in costs)
    return sure and any(theirs[name].value < values[name].value for name in costs)


def reason(new: Answers, before: Answers, other: Rival | None, look: Look, most: float | None) -> str:
    """Why asking may end after ``new``, the answers so far, "" where it may not. ``before``: the untouched model's
    answers to all questions; ``most``: the drop of accuracy that the budget allows."""
    n, total = len(new), len(before)
    if most is not None:
        lost = drop(before[:n], new, look.alpha)
        if lost.low > most:
            return f"breaks the budget: at least {100 * lost.low:.1f} points lost after {n} questions"
    if other is None:
        return ""
    if _right(new) + total - n <= _right(other.answers):
        return f"beaten by {other.number}, which is smaller and faster: it can no longer be right more often"
    if drop(other.answers[:n], new, look.alpha).low > 0:
        return f"beaten by {other.number}, which is smaller, faster and surely right more often, after {n} questions"
    return ""


def _right(answers: Answers) -> float:
    return math.fsum(one.score for one in answers)
