"""Matrices of which only some entries are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor, nn

from trimtab.core.pack import pack, unpack
from trimtab.core.weight import ROWS, Weight, dtype_of, name_of, rows


@final
class Masked(Weight):
    """``values`` (kept,), row by row, where the bits of ``mask`` (out, in / 8) are 1; 0 elsewhere.

    Half of the entries of a 16-bit matrix in this form take 9/16 of its bytes, whatever the pattern.
    """

    values: Tensor
    mask: Tensor

    def __init__(self, values: Float[Tensor, " kept"], mask: UInt8[Tensor, "out bytes"]) -> None:
        super().__init__()
        self.values = values if isinstance(values, nn.Parameter) else nn.Parameter(values, requires_grad=False)
        self.register_buffer("mask", mask)
        self._starts: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, w: Float[Tensor, "out in"], mask: Bool[Tensor, "out in"]) -> Masked:
        """The entries of ``w`` where ``mask`` is True. Raises ValueError where 8 does not divide the rows."""
        return cls(w[mask], pack(mask.to(torch.uint8), 1))

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Masked:
        count, width = spec["shape"]
        values = torch.empty(spec["kept"], dtype=dtype_of(spec["dtype"]))
        return cls(values, torch.empty(count, width // 8, dtype=torch.uint8))

    @property
    def shape(self) -> tuple[int, int]:
        return self.mask.shape[0], self.mask.shape[1] * 8

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def starts(self) -> Integer[Tensor, " out"]:
        """Where each row's values begin; counted once for as long as the mask is the same tensor."""
        if self._starts is None or self._starts[0] is not self.mask:
            ones = torch.tensor([byte.bit_count() for byte in range(256)], device=self.mask.device)
            counts = torch.cat([ones[part.long()].sum(1) for part in torch.split(self.mask, ROWS)])
            self._starts = self.mask, counts.cumsum(0) - counts
        return self._starts[1]

    def kept(self) -> Bool[Tensor, "out in"]:
        """The mask, one entry to a byte."""
        return unpack(self.mask, 1).bool()

    def dense(self) -> Float[Tensor, "out in"]:
        return torch.zeros(self.shape, dtype=self.dtype, device=self.values.device).masked_scatter(
            self.kept(), self.values
        )

    def spec(self) -> dict[str, Any]:
        return {"kind": "masked", "version": self.VERSION, "shape": list(self.shape), "dtype": name_of(self.dtype),
                "kept": self.values.numel()}  # fmt: skip


@rows.register
def _(w: Masked, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    flat = index.flatten()
    mask = unpack(w.mask[flat], 1).bool()
    within = mask.long().cumsum(1) - 1
    found = torch.zeros(mask.shape, dtype=w.dtype, device=mask.device)
    found[mask] = w.values[(w.starts()[flat][:, None] + within)[mask]]
    return found.view(*index.shape, -1)
