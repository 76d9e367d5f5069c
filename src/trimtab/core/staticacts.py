"""Inputs on a grid that is fixed: one scale for all tokens, found in calibration and stored.

    c_j = clamp(round(x_j / t), -127, 127)      y = t s (sum_j c_j k_j) + bias

t is T / 127, T the largest size of an input that keeps its value: what is larger is clipped to it (static, per tensor).
No range is taken at run time. The sums are those of ``trimtab.core.acts``. Source: Jacob et al. 2018, arXiv 1712.05877,
section 2. Departure: the grid is symmetric, with no zero point, for inputs of either sign and of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from trimtab.core.acts import TOP, DynamicInt8, Rounding


@final
@dataclass(frozen=True)
class StaticInt8(Rounding):
    """Symmetric 8-bit codes of the input with the fixed ``scale`` t, a float32 number above 0."""

    scale: float

    KIND: ClassVar[str] = "static_int8"
    VERSION: ClassVar[int] = 1

    def codes(self, x: Float[Tensor, "n in"]) -> tuple[Int8[Tensor, "n in"], Float[Tensor, "n 1"]]:
        """Codes c and t for each token; no number where its input holds one that is none or infinite, which a fixed
        range would hide."""
        x = x.float()
        t = torch.where(x.isfinite().all(-1, keepdim=True), self.scale, torch.nan)
        return (x / self.scale).nan_to_num_(0).round_().clamp_(-TOP, TOP).to(torch.int8), t

    def spec(self) -> dict[str, Any]:
        return {"kind": self.KIND, "version": self.VERSION, "scale": self.scale}


def activation(spec: Mapping[str, Any]) -> Rounding:
    """What a host does to its input, from its ``spec``. Raises ValueError on a kind or version not known here, or a
    scale that is none."""
    known = {(kind.KIND, kind.VERSION) for kind in (DynamicInt8, StaticInt8)}
    found = spec.get("kind"), spec.get("version")
    if found not in known:
        accepted = ", ".join(f"{kind!r} {version}" for kind, version in sorted(known))
        raise ValueError(f"activation spec: got kind {found[0]!r} version {found[1]!r}; known: {accepted}")
    if found[0] == DynamicInt8.KIND:
        return DynamicInt8()
    scale = spec.get("scale")
    if not isinstance(scale, float) or not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"activation spec: got the scale {scale!r}; accepted: a number above 0")
    return StaticInt8(scale)
