"""Kernels of expressions, made of those of their leaves: a packed matrix with what is added to it or stands before it.

Thin leaves (two thin factors, a diagonal, small blocks along one, a few entries) cost little beside a matrix and run as
they are: their own forward is their kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from trimtab.core.blocks import Blocks
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.joins import Chain, Join, Sum
from trimtab.core.linear import Kernel
from trimtab.core.sparse import Masked
from trimtab.core.weight import Weight

THIN: Mapping[type[Weight], str] = {LowRank: "low-rank", Diagonal: "diagonal", Blocks: "blocks"}
"""Leaves that need no packing, by the name that reports give them."""


def thin(w: Weight) -> str | None:
    """The name that reports give ``w`` where it needs no packing, else None: most of a mask's matrix may be stored."""
    return "sparse" if isinstance(w, Masked) and w.mask is None else THIN.get(type(w))


Made = tuple[str, int, Kernel]
"""A kernel's name, up to how many rows it beats a dense product, and itself."""


@dataclass(frozen=True)
class Added:
    """x @ (W1 + W2 + ...).T: every part is given x, the first also the bias."""

    parts: Sequence[Kernel]

    def __call__(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        first, *others = self.parts
        y = first(x, bias)
        for part in others:
            y = y + part(x)
        return y


@dataclass(frozen=True)
class Chained:
    """x @ (W1 @ W2 @ ...).T: the last part is given x, the first what comes of it and the bias."""

    parts: Sequence[Kernel]

    def __call__(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        first, *others = self.parts
        for part in reversed(others):
            x = part(x)
        return first(x, bias)


JOINED: Mapping[type[Weight], tuple[str, Callable[[Sequence[Kernel]], Kernel]]] = {
    Sum: (" + ", Added),
    Chain: (" x ", Chained),
}
"""By join: how a report writes it, and what runs it."""


def thick(w: Weight) -> list[Weight]:
    """The nodes of ``w`` that need a kernel of their own: all leaves but thin ones, and joins not in ``JOINED``."""
    if isinstance(w, Join) and type(w) in JOINED:
        return [leaf for part in w for leaf in thick(part)]
    return [] if thin(w) else [w]


def compose(w: Weight, pack: Callable[[Weight], Made]) -> Made:
    """The kernel of ``w`` from those of its leaves, where ``pack`` makes one for each that is ``thick``."""
    if isinstance(w, Join) and type(w) in JOINED:
        names, rows, parts = zip(*(compose(part, pack) for part in w), strict=True)
        sign, join = JOINED[type(w)]
        return sign.join(names), min(rows), join(parts)
    name = thin(w)
    return pack(w) if name is None else (name, sys.maxsize, w)
