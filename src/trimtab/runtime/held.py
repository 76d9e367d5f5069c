"""Dense copies beside the codes of a model that is small enough: many rows are then multiplied as any other.

Making a matrix dense anew for each call costs about 1 ns a weight however many rows there are. For matrices of a few
hundred columns that is as much as the product itself, so a trimmed model would be slower than the one it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.linear import Kernel
from trimtab.core.stored import Stored
from trimtab.core.weight import Dense, Weight

HOLD = 32 << 20
"""Bytes of all dense copies of a model together; a model that would need more holds none."""
AS_IT_IS = (Dense, Stored)
"""Weights that are no form of another matrix: a copy would save nothing."""


@dataclass(frozen=True)
class Held:
    """x @ W.T by a copy of W; up to ``rows`` rows go through ``few``, which reads fewer bytes, where there is one."""

    value: Float[Tensor, "out in"]
    few: Kernel | None = None
    rows: int = 0

    @classmethod
    def of(cls, w: Weight, dtype: torch.dtype, few: Kernel | None = None, rows: int = 0) -> Held:
        """A copy of ``w`` in ``held_dtype``."""
        return cls(w.dense().detach().to(held_dtype(w, dtype)), few, rows)

    def __call__(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        if self.few is not None and x.numel() <= self.rows * x.shape[-1]:
            return self.few(x, bias)
        dtype = self.value.dtype if x.dtype == torch.bfloat16 else x.dtype
        return F.linear(x.to(dtype), self.value.to(dtype), None if bias is None else bias.to(dtype)).to(x.dtype)


def held_dtype(w: Weight, dtype: torch.dtype) -> torch.dtype:
    """``dtype`` where the model is in bfloat16, else the model's own."""
    return dtype if w.dtype == torch.bfloat16 else w.dtype


def held_bytes(weights: Iterable[Weight], dtype: torch.dtype) -> int:
    """What copies of all ``weights`` that are not stored dense would take, each once."""
    each = {id(w): w for w in weights if not isinstance(w, AS_IT_IS)}
    return sum(w.shape[0] * w.shape[1] * held_dtype(w, dtype).itemsize for w in each.values())
