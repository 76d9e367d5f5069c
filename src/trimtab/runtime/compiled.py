"""Products and rows by the compiled library, from the codes as a plan reads them: one copy serves both."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.core.errors import Refused
from trimtab.core.native import KNOWN, STORED, library
from trimtab.runtime.plan.layout import Laid, chunk_of

NAMES = {
    4: "compiled 4 bits", 8: "compiled 8 bits", 16: "compiled bfloat16", 17: "compiled sparse bfloat16",
    32: "compiled float32",
}  # fmt: skip
"""Of kernels, by the kind of what they read."""


@dataclass(frozen=True)
class Compiled:
    """x @ W.T + bias. 16 and more rows of bfloat16 are multiplied tile by tile where the CPU multiplies pairs of them
    (levels ``bf16`` and ``amx``), W rounded to bfloat16, sums in float32. All others by codes as they are read: from
    level ``avx512`` on as whole numbers, x rounded to 16 bits of the largest of 16 or 32 neighbours (2^-16 of it at
    most), below it in float32."""

    laid: Laid
    level: int

    def __call__(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        """Raises Refused where a gradient is asked for, MemoryError where there is none."""
        if torch.is_grad_enabled() and x.requires_grad:
            raise Refused("a lowered model: its compiled products have no gradients; accepted: the model as it loads")
        native, (out, width) = library(), self.laid.shape
        assert native is not None
        rows = x.reshape(-1, width)
        rows = (rows if x.dtype in KNOWN else rows.float()).contiguous()
        y = rows.new_empty(len(rows), out)
        bias = None if bias is None else bias.detach().float().contiguous()
        if len(rows) and native.trimtab_product(
            ctypes.byref(self.laid.matrix(bias)), rows.data_ptr(), STORED[rows.dtype], len(rows), chunk_of([self.laid]),
            self.level, torch.get_num_threads(), y.data_ptr(),
        ):  # fmt: skip
            raise MemoryError(f"a product of {len(rows)} rows")
        return y.to(x.dtype).view(*x.shape[:-1], out)


@dataclass(frozen=True)
class Rows:
    """Rows of W by number, in ``dtype``."""

    laid: Laid
    dtype: torch.dtype

    def __call__(self, numbers: Integer[Tensor, "*b"]) -> Float[Tensor, "*b width"]:
        """Raises IndexError for a number that is none."""
        native, flat = library(), numbers.reshape(-1).to(torch.int64).contiguous()
        assert native is not None
        if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < self.laid.shape[0]:
            raise IndexError(f"rows {int(flat.min())} to {int(flat.max())} of {self.laid.shape[0]}")
        y = torch.empty(len(flat), self.laid.shape[1])
        native.trimtab_rows(ctypes.byref(self.laid.matrix()), flat.data_ptr(), len(flat), y.data_ptr())
        return y.to(self.dtype).view(*numbers.shape, self.laid.shape[1])
