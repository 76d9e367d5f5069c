"""How long a search has had, how long a point will take, and what must be left for the reading of the test split."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from trimtab.run.journal import append, whole_lines
from trimtab.run.recipe import Step
from trimtab.run.search.point import Point

SPARE = 1.2
"""By what an estimate of the last reading is multiplied: minutes are a promise."""


class Clock:
    """Seconds that a search has had, over all the processes that worked at it; what a kill took is not counted."""

    def __init__(self, state: Path) -> None:
        self.path, self.since = state / "seconds.jsonl", time.monotonic()
        self.before = sum(row["seconds"] for row in whole_lines(self.path))

    def spent(self) -> float:
        """Until now."""
        return float(self.before + time.monotonic() - self.since)

    def tick(self) -> None:
        """Write down what was spent since the last tick."""
        now = time.monotonic()
        append(self.path, [{"seconds": round(now - self.since, 3)}])
        self.before, self.since = self.before + now - self.since, now


def expected(given: Sequence[Step], points: Sequence[Point]) -> float:
    """Seconds that a point will take: the mean of those with the same methods that were asked to their end, the longest
    of all where there are none."""
    whole = [one for one in points if one.outcome.state == "complete"]
    names = sorted(step.method for step in given)
    alike = [one.outcome.seconds for one in whole if sorted(step.method for step in one.steps) == names]
    return fmean(alike) if alike else max((one.outcome.seconds for one in whole), default=0.0)


@dataclass(frozen=True)
class Pace:
    """Of the last reading: ``models`` that are read, ``questions`` for each, and ``rounds`` of timing."""

    models: int
    questions: int
    rounds: int


def reserve(points: Sequence[Point], pace: Pace, repeats: int) -> float:
    """Seconds that the reading will take, from what points took for trimming, ``repeats`` rounds of timing and each
    question; 0 before any was asked."""
    asked = [one.outcome for one in points if one.outcome.state == "complete" and one.outcome.asked]
    if not asked:
        return 0.0
    question = fmean(one.spent["ask"] / one.asked for one in asked)
    trim = max(one.spent["trim"] for one in asked)
    each = fmean(one.spent["time"] for one in asked) / (repeats + 1) * (pace.rounds + 1)
    return SPARE * pace.models * (trim + pace.questions * question + each)
