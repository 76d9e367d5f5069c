"""Try, tell, and try again, until the minutes are over or nothing new is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from trimtab.run.search.clock import Clock
from trimtab.run.search.front import Costs
from trimtab.run.search.point import Outcome, Point
from trimtab.run.search.study import Tries, Try

Told = tuple[Costs | None, Mapping[str, float]]
"""Costs in the study's directions, None for what failed, and by axis what is violated."""


def loop(
    tries: Tries,
    clock: Clock,
    trying: Callable[[Try, Sequence[Point]], Outcome],
    told: Callable[[Outcome], Told],
    fits: Callable[[Try, Sequence[Point]], bool],
    after: Callable[[Try, Outcome], None] = lambda one, outcome: None,
) -> bool:
    """Whether it ended since nothing new is left. A try that does not fit is not begun, and stays the next one."""
    while (one := tries.ask()) is not None:
        points = tries.points()
        if not fits(one, points):
            return False
        outcome = trying(one, points)
        tries.tell(one, outcome, *told(outcome))
        clock.tick()
        after(one, outcome)
    return True
