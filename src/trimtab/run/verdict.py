"""Whether a run met its budget: a verdict per axis, and one for the run.

A budget ``max`` on a sampled figure is met when its one-sided 95 % upper bound is at most the limit, REGRESSION when
the lower bound is above it, and INCONCLUSIVE otherwise. A counted figure has both bounds equal to itself. Axes
without a budget show their sign and decide nothing, but ANOMALOUS anywhere decides everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

AxisName = Literal["quality", "size", "speed", "memory"]
Status = Literal["ACCEPTED", "REGRESSION", "INCONCLUSIVE", "INEFFECTIVE", "ANOMALOUS", "better", "same", "worse"]
EXIT = {"ACCEPTED": 0, "ANOMALOUS": 3, "REGRESSION": 3, "INCONCLUSIVE": 4, "INEFFECTIVE": 4, "ABLATION": 4,
        "INFEASIBLE": 5}  # fmt: skip
# The worst of these among the axes with a budget is the run's verdict.
RANK = ("ANOMALOUS", "REGRESSION", "INCONCLUSIVE", "INEFFECTIVE", "ABLATION", "ACCEPTED")


@dataclass(frozen=True)
class Figure:
    """A cost (smaller is better) with its one-sided 95 % bounds; ``same`` is the value that means no change."""

    value: float
    low: float
    high: float
    same: float
    more_samples: int | None = None


@dataclass(frozen=True)
class Axis:
    """One row of the verdict. ``figure`` names the reading; ``change`` is how a person says it."""

    axis: AxisName
    figure: str
    status: Status
    budget: str | None
    before: float | None
    after: float | None
    change: str
    bound: float | None
    more_samples: int | None
    text: str

    def row(self) -> dict[str, Any]:
        """Plain data for ``result.json``."""
        return asdict(self)


def status(figure: Figure, limit: float | None) -> Status:
    """The status of a cost under ``limit``, or its sign without one."""
    if not all(math.isfinite(value) for value in (figure.value, figure.low, figure.high)):
        return "ANOMALOUS"
    if limit is None:
        return "better" if figure.high < figure.same else "worse" if figure.low > figure.same else "same"
    return "ACCEPTED" if figure.high <= limit else "REGRESSION" if figure.low > limit else "INCONCLUSIVE"


def overall(axes: Iterable[Axis], ineffective: bool = False, anomalous: bool = False, ablation: bool = False) -> str:
    """The run's verdict: the worst status among axes with a budget, ANOMALOUS wherever it stands.

    ``ineffective``: a step claims to save on an axis that the budget names, and nothing was saved there.
    ``anomalous``: a standing invariant is broken or the gate failed. ``ablation``: the run compares ways to calibrate,
    and accepts nothing.
    """
    rows = list(axes)
    found: set[str] = {row.status for row in rows if row.budget is not None or row.status == "ANOMALOUS"}
    found |= {"INEFFECTIVE"} if ineffective else set()
    found |= {"ANOMALOUS"} if anomalous else set()
    found |= {"ABLATION"} if ablation else set()
    return next((name for name in RANK if name in found), "ACCEPTED")
