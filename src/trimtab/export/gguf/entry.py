"""A tensor on its way into a GGUF file, and which form each of our weights takes there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import NoReturn

import torch
from jaxtyping import Integer
from torch import Tensor

from trimtab.core.codebook import Codebook
from trimtab.core.errors import Refused
from trimtab.core.joins import leaves
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.export.gguf import kbytes
from trimtab.export.gguf.blocks import BLOCK, BYTES, FLOATS, Kind, bytes_of, exact16, kind_of
from trimtab.export.gguf.kquant import KQuant

NEXT = {
    "sum": "merge the adapter (a merge step), or leave eora out of the recipe; nearest: rtn or gptq alone",
    "codebook": "uneven levels are not written, only even steps; nearest: gptq or rtn in its place, or --format dense",
    "chain": "its factors or rotation cannot be folded into one grid; nearest: gptq or rtn with the same bits and "
    "group_size, rotate: 0",
    "hadamard": "nearest: gptq or rtn alone",
    "low_rank": "nearest: --format dense",
}
"""What to do about a form that no GGUF file has, by the kind of its node."""
Value = Weight | KQuant | Tensor


@dataclass(frozen=True)
class Entry:
    """``shape`` of the numbers; ``make`` gives their bytes, uint8 of the same axes, when they are written. ``form``: in
    a word, what it is in the artifact, where that takes another room there; ``said``: in a sentence. ``off``: as
    ``KQuant.off``, 0 where it is the artifact's."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    make: Callable[[], Tensor]
    form: str = ""
    off: float = 0.0

    @property
    def said(self) -> str:
        count, width = BYTES[self.kind]
        how, then = "rounded onto" if self.off else "as", "" if self.off else ", value for value"
        return f"{self.form} {how} {self.kind}, {8 * width / count:g} bits for each weight{then}"

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """What ``make`` will give."""
        count, width = BYTES[self.kind]
        return *self.shape[:-1], self.shape[-1] // count * width

    def rows(self, order: Integer[Tensor, " out"]) -> Entry:
        """The same with its rows in another order; a row is a block or more, so nothing is decoded."""
        return replace(self, make=lambda: self.make().view(self.shape[0], -1)[order].view(self.byte_shape))


def plain(name: str, value: Tensor, kind: Kind | None = None) -> Entry:
    """Numbers as they are: vectors in float32, matrices in their own dtype, or all in ``kind``."""
    chosen = kind or ("F32" if value.ndim == 1 else FLOATS[value.dtype])
    dtype = next(dtype for dtype, one in FLOATS.items() if one == chosen)
    return Entry(name, chosen, tuple(value.shape), lambda: _bytes(value.detach().to(dtype)))


def _bytes(value: Tensor) -> Tensor:
    return value.contiguous().view(torch.uint8)


@singledispatch
def entry(w: Weight | KQuant, name: str, host: str) -> Entry:
    """The entry ``name`` for the weight of ``host``. Raises Refused, naming the host, its form and the nearest one."""
    assert isinstance(w, Weight)  # a KQuant has its own, below
    kind = str(w.spec()["kind"])
    why = "codebook" if any(isinstance(leaf, Codebook) for leaf in leaves(w)) else kind
    _refuse(host, f"a {kind!r} of {_inside(w)}", NEXT.get(why, "nearest: --format dense"))


@entry.register
def _(w: Dense, name: str, host: str) -> Entry:
    return plain(name, w.value)


@entry.register
def _(w: Masked, name: str, host: str) -> Entry:
    return Entry(name, FLOATS[w.dtype], w.shape, lambda: _bytes(w.dense().detach()), "pruned weights with their zeros")


@entry.register
def _(w: Quantized, name: str, host: str) -> Entry:
    grid = f"{w.bits} bits in groups of {w.group_size}"
    if w.group_size % BLOCK:
        _refuse(host, grid, _groups(w))
    if not exact16(w.scale):
        _refuse(host, f"{grid} with scales that float16 does not hold ({w.dtype})",
                "nearest: trim the model in bfloat16 or float16 (dtype)")  # fmt: skip
    kind = kind_of(w)
    if kind is None:
        _refuse(host, f"{grid} with a zero point", "nearest: symmetric: true")
    return Entry(name, kind, w.shape, lambda: bytes_of(w, kind), f"{w.bits}-bit codes")


@entry.register
def _(w: KQuant, name: str, host: str) -> Entry:
    return Entry(name, w.grid.kind, w.shape, lambda: kbytes.bytes_of(w), f"{w.grid.bits}-bit codes", w.off)


def _groups(w: Quantized) -> str:
    width = w.shape[1]
    legal = [group for group in range(BLOCK, width + 1, BLOCK) if width % group == 0]
    if not legal:
        return f"{BLOCK} inputs are a block and do not divide {width}; nearest: leave it dense (ignore)"
    return f"{BLOCK} inputs are a block; nearest: group_size: {min(legal, key=lambda one: abs(one - w.group_size))}"


def _inside(w: Weight) -> str:
    return ", ".join(str(part["kind"]) for part in w.spec().get("parts", [])) or "its own"


def _refuse(host: str, form: str, then: str) -> NoReturn:
    raise Refused(f"--format gguf: {host} is stored as {form}, which GGUF cannot express; {then}")
