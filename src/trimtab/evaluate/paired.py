"""The drop of accuracy between two predictions of the same samples, with its bounds, flips and what is still needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from trimtab.core.errors import Anomaly
from trimtab.evaluate.matched import p_above, p_below
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.student import t_quantile

Decision = Literal["met", "regression", "inconclusive"]
ALPHA = 0.05
MOST_SAMPLES = 1_000_000
EXACT_UP_TO = 20_000  # samples; beyond, what is still needed is only estimated


@dataclass(frozen=True)
class Drop:
    """``value`` = accuracy before - after, in shares; ``low`` and ``high`` its one-sided 95 % bounds (each alone).

    ``lost``: answers that were right and are wrong, ``gained``: the other way round, among ``n`` pairs.
    """

    value: float
    low: float
    high: float
    lost: int
    gained: int
    n: int


def drop(before: Sequence[Prediction], after: Sequence[Prediction], alpha: float = ALPHA) -> Drop:
    """The paired drop. Scores of 0 and 1 are bounded as in ``matched``, others by Student's t on the differences.

    ``alpha``: the level of each bound, where several looks share the 5 % (``sequential``). Raises Anomaly where the two
    are not of the same samples in the same order, ValueError without samples.
    """
    if [one.id for one in before] != [one.id for one in after]:
        raise Anomaly("paired difference: the two sides are not predictions of the same samples in the same order")
    if not before:
        raise ValueError("paired difference: no samples")
    lost = sum(one.correct and not other.correct for one, other in zip(before, after, strict=True))
    gained = sum(other.correct and not one.correct for one, other in zip(before, after, strict=True))
    n = len(before)
    if all(one.score in (0, 1) for one in (*before, *after)):
        return Drop((lost - gained) / n, *bounds(lost, gained, n, alpha), lost, gained, n)
    differences = [one.score - other.score for one, other in zip(before, after, strict=True)]
    mean = math.fsum(differences) / n
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in differences) / max(1, n - 1) / n)
    reach = t_quantile(1 - alpha, n - 1) * spread if n > 1 else 2.0
    return Drop(mean, max(-1.0, mean - reach), min(1.0, mean + reach), lost, gained, n)


def bounds(lost: float, gained: float, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """One-sided bounds of the drop, of 95 % each: the smallest and largest D whose p-value is above ``alpha``."""
    value = (lost - gained) / n
    high = _edge(lambda d: p_below(lost, gained, n, d) > alpha, value, 1.0)
    low = _edge(lambda d: p_above(lost, gained, n, d) > alpha, value, -1.0)
    return low, high


def _edge(inside: Callable[[float], bool], start: float, end: float) -> float:
    """Where ``inside`` ends on the way from ``start`` (inside) to ``end``, to 1e-6, seen from outside."""
    if inside(end):
        return end
    step = math.copysign(0.002, end - start)
    while abs(step) < abs(end - start) and inside(start + step):
        start, step = start + step, 2 * step
    end = start + step if abs(step) < abs(end - start) else end
    while abs(end - start) > 1e-6:
        middle = (start + end) / 2
        start, end = (middle, end) if inside(middle) else (start, middle)
    return end


def decide(lost: float, gained: float, n: int, max_drop: float, alpha: float = ALPHA) -> Decision:
    """Met when a drop above ``max_drop`` is refuted at ``alpha``, regression when one of at most that much is."""
    if p_below(lost, gained, n, max_drop) <= alpha:
        return "met"
    return "regression" if p_above(lost, gained, n, max_drop) <= alpha else "inconclusive"


def decision(found: Drop, max_drop: float) -> Decision:
    """The same from the bounds of a drop, of whichever kind its scores are."""
    return "met" if found.high <= max_drop else "regression" if found.low > max_drop else "inconclusive"


def more_samples(found: Drop, max_drop: float) -> int | None:
    """How many further samples would decide if the rates stay as seen: 0 when decided, None above a million."""
    if decision(found, max_drop) != "inconclusive":
        return 0
    half = max(found.high - found.value, found.value - found.low)
    gap = abs(max_drop - found.value)
    if gap * math.sqrt(MOST_SAMPLES / found.n) <= half:
        return None
    guess = math.ceil(found.n * (half / gap) ** 2)  # bounds shrink as 1 / sqrt(n)
    if guess <= EXACT_UP_TO and found.value == (found.lost - found.gained) / found.n:
        guess = _refined(found, max_drop, guess)
    return max(1, guess - found.n)


def _refined(found: Drop, max_drop: float, guess: int) -> int:
    """The least n, to a hundredth, at which the same rates decide; ``guess`` is near it."""

    def decided(n: int) -> bool:
        return decide(found.lost * n / found.n, found.gained * n / found.n, n, max_drop) != "inconclusive"

    low, high = found.n, max(guess, found.n + 1)
    while not decided(high) and high < MOST_SAMPLES:
        low, high = high, 2 * high
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high
