"""What a product with a stored matrix reads and computes: its parts, each in the form that a kernel here knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch

import torch

from trimtab.core.blocks import Blocks
from trimtab.core.codebook import Codebook
from trimtab.core.factors import LowRank
from trimtab.core.joins import Chain, Sum
from trimtab.core.linear import Host, Linear
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight, name_of

CODES4, CODES8, PRUNED, ROUNDED, OTHER = "4 bits", "8 bits", "pruned", "8 bits, inputs too", "reference"
"""Forms beside the dense ones, which are called by their dtype. 2 and 3 bits take the room of 4 where they are
multiplied; ``reference``: the matrix is made dense for every call."""


@dataclass(frozen=True)
class Piece:
    """A matrix (out, in) that is multiplied by; ``bytes`` of it that are read for any number of rows."""

    form: str
    shape: tuple[int, int]
    bytes: float


def pieces(host: Host) -> list[Piece]:
    """Of a linear or a word table: one matrix, or several where its weight is a sum or a chain."""
    found = _pieces(host.w)
    rounded = isinstance(host, Linear) and host.acts is not None
    return [replace(one, form=ROUNDED) if rounded and one.form == CODES8 else one for one in found]


@singledispatch
def _pieces(w: Weight) -> Iterator[Piece]:
    stored = sum(t.nbytes for t in (*w.parameters(), *w.buffers()))
    yield Piece(OTHER, w.shape, float(stored))


@_pieces.register
def _(w: Dense) -> Iterator[Piece]:
    yield dense(w.shape, w.dtype)


@_pieces.register
def _(w: Quantized) -> Iterator[Piece]:
    yield coded(w.shape, w.bits, w.group_size, w.zero is None)


@_pieces.register
def _(w: Codebook) -> Iterator[Piece]:
    yield coded(w.shape, 4, w.shape[1] // w.scale.shape[1], True)


@_pieces.register
def _(w: Masked) -> Iterator[Piece]:
    yield pruned(w.shape, w.values.numel() / (w.shape[0] * w.shape[1]))


@_pieces.register
def _(w: LowRank) -> Iterator[Piece]:
    yield from thin(w.shape, w.rank, w.dtype)


@_pieces.register
def _(w: Blocks) -> Iterator[Piece]:
    yield dense((w.width, w.size), torch.float32)


@_pieces.register(Sum)
@_pieces.register(Chain)
def _(w: Sum | Chain) -> Iterator[Piece]:
    for part in w:
        yield from _pieces(part)


def dense(shape: tuple[int, int], dtype: torch.dtype) -> Piece:
    """As it is."""
    return Piece(name_of(dtype), shape, float(shape[0] * shape[1] * dtype.itemsize))


def coded(shape: tuple[int, int], bits: int, group_size: int, symmetric: bool) -> Piece:
    """Codes in groups: a scale of 16 bits for each, and a zero of 8 where the grid is not symmetric."""
    out, width = shape
    form, size = (CODES8, 1.0) if bits == 8 else (CODES4, 0.5)
    return Piece(form, shape, out * (width * size + width / group_size * (2 + (not symmetric or bits < 4))))


def pruned(shape: tuple[int, int], keep: float) -> Piece:
    """A value of 16 bits for each entry that is kept, and a bit for every one."""
    return Piece(PRUNED, shape, shape[0] * shape[1] * (2 * keep + 1 / 8))


def thin(shape: tuple[int, int], rank: int, dtype: torch.dtype) -> tuple[Piece, Piece]:
    """Two factors, (r, in) and (out, r)."""
    return dense((rank, shape[1]), dtype), dense((shape[0], rank), dtype)
