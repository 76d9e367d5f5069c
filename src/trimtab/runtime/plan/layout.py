"""Weights as native/product.h reads them: blocks of 16 rows whose codes lie side by side, each line 64 bytes.

Nothing is rounded: codes, scales, zeros and levels are the weight's own. 2- and 3-bit codes take the room of 4. Of a
matrix in bfloat16 that was pruned only what was kept is there, with a bit for each entry that says where.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from trimtab.core.codebook import Codebook, table
from trimtab.core.native import STORED
from trimtab.core.pack import pack, unpack
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.runtime.plan.structs import Matrix

BLOCK = 16
"""Rows whose codes stand side by side."""
SOME16 = 17
"""The kind of a matrix of which some entries are stored."""
CODED = (4, 8)
"""Kinds of matrices that are codes in groups."""
CHUNKS = (32, 16)
"""Inputs that are rounded with one scale where many rows are multiplied: the most that all groups are multiples of."""


@dataclass(frozen=True)
class Laid:
    """A weight's tensors in the library's order, which must live as long as what points to them."""

    kind: int
    shape: tuple[int, int]
    codes: Tensor
    scale: Tensor | None = None
    zero: Tensor | None = None
    levels: Tensor | None = None
    values: Tensor | None = None
    starts: Tensor | None = None

    @property
    def nbytes(self) -> int:
        every = (self.codes, self.scale, self.zero, self.levels, self.values, self.starts)
        return sum(t.nbytes for t in every if t is not None)

    @property
    def group(self) -> int:
        return self.shape[1] if self.scale is None else self.shape[1] // self.scale.shape[1]

    def matrix(self, bias: Float[Tensor, " out"] | None = None) -> Matrix:
        """What the library is given; ``bias`` float32, to be kept by the caller too."""
        made = Matrix(kind=self.kind, out=self.shape[0], width=self.shape[1], group=self.group)
        for name in ("codes", "scale", "zero", "levels", "values", "starts"):
            if (value := getattr(self, name)) is not None:
                setattr(made, name, value.data_ptr())
        if bias is not None:
            made.bias = bias.data_ptr()
        if self.scale is not None:
            made.stored = STORED[self.scale.dtype]
        return made


@singledispatch
def laid(w: Weight) -> Laid | str:
    """``w`` for the library, or why it cannot be."""
    return f"{type(w).__name__} weight: the compiled decoder takes codes and dense matrices"


@laid.register
def _(w: Dense) -> Laid | str:
    if w.dtype == torch.bfloat16:
        return _odd(w) or Laid(16, w.shape, _pairs(w.value.detach()))
    return Laid(32, w.shape, _blocks(w.value.detach()).float().transpose(1, 2).contiguous())


@laid.register
def _(w: Masked) -> Laid | str:
    if w.dtype != torch.bfloat16:
        return laid(Dense(w.dense()))
    if (why := _odd(w)) is not None:
        return why
    kept = _pairs(w.kept()).flatten(2)
    counts = kept.sum((1, 2))
    values = torch.cat([_pairs(w.dense()).flatten(2)[kept], w.values.new_zeros(2 * BLOCK)])
    masks = pack(kept.flatten(0, 1).to(torch.uint8), 1).view(*kept.shape[:2], -1)
    return Laid(SOME16, w.shape, masks, values=values, starts=counts.cumsum(0) - counts)


@laid.register
def _(w: Quantized) -> Laid | str:
    if (why := _uneven(w.group_size)) is not None:
        return why
    zero = w.zero
    if zero is None and w.bits < 4:
        zero = torch.full_like(w.scale, 1 << (w.bits - 1), dtype=torch.uint8)
    codes = unpack(w.codes, w.bits)
    lines, kind = (_bytes(codes), 8) if w.bits == 8 else (_nibbles(codes), 4)
    return Laid(kind, w.shape, lines, _grouped(w.scale), None if zero is None else _grouped(zero))


@laid.register
def _(w: Codebook) -> Laid | str:
    group = w.shape[1] // w.scale.shape[1]
    if (why := _uneven(group)) is not None:
        return why
    lines = _nibbles(unpack(w.codes, 4))
    return Laid(4, w.shape, lines, _grouped(w.scales.read(slice(None))), None, table(w.levels))


def chunk_of(all_of: Iterable[Laid | Matrix]) -> int:
    """How many inputs are rounded as one, or summed, for all of them."""
    groups = [one.group for one in all_of if one.kind in CODED]
    return next(size for size in CHUNKS if all(group % size == 0 for group in groups))


def _odd(w: Weight) -> str | None:
    return f"rows of {w.shape[1]}: an even number is wanted" if w.shape[1] % 2 else None


def _pairs(rows: Tensor) -> Tensor:
    """(out, in) as (blocks, in / 2, 16, 2)."""
    return _blocks(rows).unflatten(2, (-1, 2)).transpose(1, 2).contiguous()


def _uneven(group: int) -> str | None:
    return f"group_size {group}: the compiled decoder takes multiples of {CHUNKS[-1]}" if group % CHUNKS[-1] else None


def _blocks(rows: Tensor) -> Tensor:
    """(blocks, 16, ...): the last one filled with zeros."""
    missing = -len(rows) % BLOCK
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]).unflatten(0, (-1, BLOCK))


def _grouped(values: Tensor) -> Tensor:
    """(out, groups) as (blocks, groups, 16)."""
    return _blocks(values).transpose(1, 2).contiguous()


def _nibbles(codes: UInt8[Tensor, "out in"]) -> UInt8[Tensor, "blocks lines rows four"]:
    """Of each 8 inputs of a row the first 4 in the low halves of 4 bytes, the others in the high ones."""
    low, high = _blocks(codes).unflatten(2, (-1, 2, 4)).unbind(3)
    return (low | high << 4).transpose(1, 2).contiguous()


def _bytes(codes: UInt8[Tensor, "out in"]) -> UInt8[Tensor, "blocks lines rows four"]:
    return _blocks(codes).unflatten(2, (-1, 4)).transpose(1, 2).contiguous()
