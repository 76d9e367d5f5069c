"""Matrices of which only some entries are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor, nn

from trimtab.core.pack import pack, unpack
from trimtab.core.weight import ROWS, Weight, dtype_of, name_of, rows, wide

FEW = 8
"""Rows of input up to which the stored entries are multiplied one by one; more are multiplied by the dense matrix."""


def column_dtype(width: int) -> torch.dtype:
    """The smallest integer that holds a column of a row of ``width``."""
    return torch.int16 if width <= 1 << 15 else torch.int32


def masked_bits(count: int, width: int, kept: int, value_bits: int = 16) -> int:
    """Bits of a ``Masked`` of (count, width) with ``kept`` values, in the smaller of its two forms."""
    places = count * width if _by_mask(count, width, kept) else _coordinate_bits(count, width, kept)
    return kept * value_bits + places


def _coordinate_bits(count: int, width: int, kept: int) -> int:
    return kept * 8 * column_dtype(width).itemsize + 32 * (count + 1)


def _by_mask(count: int, width: int, kept: int) -> bool:
    """Whether a mask (which whole bytes must fill) takes no more than coordinates."""
    return width % 8 == 0 and count * width <= _coordinate_bits(count, width, kept)


@final
class Masked(Weight):
    """``values`` (kept,), row by row, at some entries; 0 elsewhere. Where they are is said in one of two forms:

    ``mask`` (out, in / 8): the bits that are 1. Half of the entries of a 16-bit matrix then take 9/16 of its bytes.
    ``columns`` (kept,), int16 or int32, with ``pointer`` (out + 1,) int32: row i has the values from pointer[i] to
    pointer[i + 1]. It takes fewer bytes where less than about one entry in 16 is kept (outliers).

    The first is version 1 of the stored form, the second version 2.
    """

    VERSION: ClassVar[int] = 2
    OLDER: ClassVar[tuple[int, ...]] = (1,)
    values: Tensor
    mask: Tensor | None
    columns: Tensor | None
    pointer: Tensor | None

    def __init__(
        self,
        values: Float[Tensor, " kept"],
        mask: UInt8[Tensor, "out bytes"] | None = None,
        columns: Integer[Tensor, " kept"] | None = None,
        pointer: Integer[Tensor, " ends"] | None = None,
        width: int = 0,
    ) -> None:
        super().__init__()
        self.width = width if mask is None else mask.shape[1] * 8
        self.values = values if isinstance(values, nn.Parameter) else nn.Parameter(values, requires_grad=False)
        self.register_buffer("mask", mask)
        self.register_buffer("columns", columns)
        self.register_buffer("pointer", pointer)
        self._starts: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, w: Float[Tensor, "out in"], mask: Bool[Tensor, "out in"]) -> Masked:
        """The entries of ``w`` where ``mask`` is True, in the form that takes fewer bytes."""
        values, ends = w[mask], mask.sum(1).cumsum(0)
        if _by_mask(len(w), w.shape[1], values.numel()):
            return cls(values, pack(mask.to(torch.uint8), 1))
        columns = mask.nonzero()[:, 1].to(column_dtype(w.shape[1]))
        return cls(values, None, columns, torch.cat([ends.new_zeros(1), ends]).int(), w.shape[1])

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Masked:
        count, width = spec["shape"]
        values = torch.empty(spec["kept"], dtype=dtype_of(spec["dtype"]))
        if spec["version"] == 1:
            return cls(values, torch.empty(count, width // 8, dtype=torch.uint8))
        columns = torch.empty(spec["kept"], dtype=column_dtype(width))
        return cls(values, None, columns, torch.empty(count + 1, dtype=torch.int32), width)

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self.starts()) if self.mask is None else self.mask.shape[0]), self.width

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def starts(self) -> Integer[Tensor, " out"]:
        """Where each row's values begin; counted once for as long as the mask is the same tensor."""
        if self.mask is None:
            assert self.pointer is not None
            return self.pointer[:-1].long()
        if self._starts is None or self._starts[0] is not self.mask:
            ones = torch.tensor([byte.bit_count() for byte in range(256)], device=self.mask.device)
            counts = torch.cat([ones[part.long()].sum(1) for part in torch.split(self.mask, ROWS)])
            self._starts = self.mask, counts.cumsum(0) - counts
        return self._starts[1]

    def places(self) -> tuple[Integer[Tensor, " kept"], Integer[Tensor, " kept"]]:
        """Row and column of every value, in order."""
        if self.columns is None or self.pointer is None:
            row, column = self.kept().nonzero(as_tuple=True)
            return row, column
        counts = self.pointer.diff()
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts), self.columns.long()

    def kept(self) -> Bool[Tensor, "out in"]:
        """The mask, one entry to a byte."""
        if self.mask is not None:
            return unpack(self.mask, 1).bool()
        return torch.zeros(self.shape, dtype=torch.bool, device=self.values.device).index_put(
            self.places(), torch.ones((), dtype=torch.bool, device=self.values.device)
        )

    def smaller(self) -> Masked:
        """The same matrix in the form that takes fewer bytes: itself, or the other (with a mask only where 8 divides
        the rows)."""
        (count, width), kept = self.shape, self.values.numel()
        by_mask = _by_mask(count, width, kept)
        if by_mask == (self.mask is not None):
            return self
        if by_mask:
            return Masked(self.values, pack(self.kept().to(torch.uint8), 1))
        ends = torch.cat([self.starts(), torch.tensor([kept], device=self.values.device)])
        return Masked(self.values, None, self.places()[1].to(column_dtype(width)), ends.int(), width)

    def like(self, values: Float[Tensor, " kept"]) -> Masked:
        """Other values at the same entries, in the same form."""
        return Masked(values, self.mask, self.columns, self.pointer, self.width)

    def dense(self) -> Float[Tensor, "out in"]:
        blank = torch.zeros(self.shape, dtype=self.dtype, device=self.values.device)
        if self.mask is not None:
            return blank.masked_scatter(self.kept(), self.values)
        return blank.index_put(self.places(), self.values)

    def forward(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        flat = x.reshape(-1, x.shape[-1])
        if self.mask is not None or len(flat) > FEW:
            return super().forward(x, bias)
        row, column = self.places()
        each = wide(flat[:, column]) * wide(self.values)
        y = each.new_zeros(len(flat), self.shape[0]).index_add(1, row, each).to(x.dtype)
        return (y if bias is None else y + bias).view(*x.shape[:-1], self.shape[0])

    def spec(self) -> dict[str, Any]:
        version = self.VERSION if self.mask is None else 1
        return {"kind": "masked", "version": version, "shape": list(self.shape), "dtype": name_of(self.dtype),
                "kept": self.values.numel()}  # fmt: skip


@rows.register
def _(w: Masked, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    flat = index.flatten()
    found = torch.zeros(len(flat), w.width, dtype=w.dtype, device=w.values.device)
    first = w.starts()[flat]
    if w.mask is not None:
        mask = unpack(w.mask[flat], 1).bool()
        if len(flat) and bool((flat.diff() == 1).all()):  # rows in order: their values lie in order too
            found.masked_scatter_(mask, w.values[first[0] :])
        else:
            within = mask.long().cumsum(1) - 1
            found[mask] = w.values[(first[:, None] + within)[mask]]
    else:
        assert w.pointer is not None
        assert w.columns is not None
        counts = w.pointer.diff()[flat]
        at = torch.arange(int(counts.sum()), device=flat.device)
        at = at + (first - counts.cumsum(0) + counts).repeat_interleave(counts)
        row = torch.arange(len(flat), device=flat.device).repeat_interleave(counts)
        found[row, w.columns[at].long()] = w.values[at]
    return found.view(*index.shape, -1)
