"""When enough questions have been asked: looks at sizes and levels that were set before the first answer.

With levels a_1 + ... + a_k = 5 %, each one-sided bound taken at look i at level a_i, the chance that any look decides
wrongly is at most 5 % (Bonferroni), however the looks depend on one another, so stopping at the first that decides is
allowed; the bounds of that look, at its level, are the ones to show.
"""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.evaluate.paired import ALPHA

SHARES = ((1 / 4, 1 / 5), (1 / 2, 1 / 5), (1.0, 3 / 5))
"""(part of the samples, part of the 5 %) of each look: most is kept for the last, which comes if nothing is clear."""


@dataclass(frozen=True)
class Look:
    """After ``n`` samples, at one-sided level ``alpha``."""

    n: int
    alpha: float


def looks(n: int, step: int) -> tuple[Look, ...]:
    """The looks at ``n`` samples that are answered ``step`` at a time: sizes are rounded up to whole steps, and looks
    that fall together share their levels. Raises ValueError without samples."""
    if n < 1 or step < 1:
        raise ValueError(f"looks: got {n} samples in steps of {step}; accepted: 1 or more of both")
    levels: dict[int, float] = {}
    for part, share in SHARES:
        size = min(n, -(-int(-(-part * n // 1)) // step) * step)
        levels[size] = levels.get(size, 0.0) + share * ALPHA
    return tuple(Look(size, alpha) for size, alpha in sorted(levels.items()))


def level(plan: tuple[Look, ...], n: int) -> float:
    """The level of bounds after ``n`` samples: that look's, or the last one's where asking ended between looks."""
    return next((look.alpha for look in plan if look.n == n), plan[-1].alpha)
