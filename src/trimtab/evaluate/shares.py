"""One share with its interval: k of n answers right."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trimtab.core.reading import Reading
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.student import NORMAL, t_quantile


def wilson(k: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927): the p with |k/n - p| <= z sqrt(p (1 - p) / n). Raises ValueError for n < 1."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"k, n: got {k} of {n}; accepted: 0 <= k <= n and n at least 1")
    z, p = NORMAL.inv_cdf((1 + level) / 2), k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half) if k else 0.0, min(1.0, middle + half) if k < n else 1.0


def accuracy(name: str, predictions: Sequence[Prediction]) -> Reading:
    """The mean score as a reading: Wilson's interval where every score is 0 or 1, Student's t otherwise.

    Samples are taken as independent; questions of one picture are not quite, so true intervals are a little wider.
    """
    scores = [one.score for one in predictions]
    n = len(scores)
    if not n:
        raise ValueError(f"{name}: no predictions")
    mean = math.fsum(scores) / n
    if all(score in (0, 1) for score in scores):
        return Reading(name, mean, "share", wilson(sum(scores), n), n, "estimated")
    if n < 2:
        return Reading(name, mean, "share", None, n, "estimated")
    half = t_quantile(0.975, n - 1) * math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / (n - 1) / n)
    return Reading(name, mean, "share", (max(0.0, mean - half), min(1.0, mean + half)), n, "estimated")
