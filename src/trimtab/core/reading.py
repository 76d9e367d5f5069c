"""One measured, counted or estimated figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["counted", "timed", "estimated", "bounded", "simulated"]


@dataclass(frozen=True)
class Reading:
    """``value`` in ``unit``; ``spread`` is its 95 % interval (low, high) where there is one; ``n`` samples or repeats.

    ``name`` is dotted, coarse to fine: ``accuracy.easyvqa``, ``latency.prefill.b8``, ``bytes.weights``. ``how`` says
    where the figure comes from: counted (exact), timed, estimated (sampled), bounded, simulated.
    """

    name: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None
    n: int = 1
    how: How = "counted"
