"""ggml's k-quants: 256 inputs share one float16 or two, and each sub-block multiplies them by small whole numbers.

    Q4_K  d sc q - dmin m    8 sub-blocks of 32, q 0 .. 15, sc and m 0 .. 63    4.5 bits for each weight
    Q3_K  d sc q            16 sub-blocks of 16, q -4 .. 3, sc -32 .. 31        3.4375
    Q2_K  d sc q - dmin m   16 sub-blocks of 16, q 0 .. 3,  sc and m 0 .. 15    2.625

Our grids have a scale of their own for each group, so most matrices are rounded to be one of these; only the user asks
for that. Format: ggml's block layouts (public, 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float, Float16, Integer, UInt8
from torch import Tensor

from trimtab.core.pack import unpack
from trimtab.core.weight import ROWS, Quantized
from trimtab.export.gguf.blocks import BLOCK, BYTES, Kind, exact16, kind_of, span

WIDE = 256
"""Inputs of a block."""


@dataclass(frozen=True)
class Grid:
    """``bits`` of a code, ``sub`` inputs of a sub-block, ``lowest`` code, ``low`` and ``high``: the least and greatest
    number of a sub-block. ``least``: whether a multiple of ``dmin`` is taken off."""

    kind: Kind
    bits: int
    sub: int
    lowest: int
    low: int
    high: int
    least: bool


GRIDS: Mapping[int, Grid] = MappingProxyType({
    2: Grid("Q2_K", 2, 16, 0, 0, 15, True),
    3: Grid("Q3_K", 3, 16, -4, -32, 31, False),
    4: Grid("Q4_K", 4, 32, 0, 0, 63, True),
})  # fmt: skip
"""By the bits of our codes."""


def grid_for(w: Quantized) -> Grid | None:
    """The k-quant whose codes have as many bits, if it takes less room than the block type that holds ``w`` exactly;
    None where it does not, 256 does not divide a row, or our own form is refused anyway.

    Three bits with zeros have levels from -7 to 7. Q3_K holds only those from -4 to 3, and Q4_K takes the room of Q4_0,
    which is exact: so they are on Q3_K where all their levels are, else on none.
    """
    grid, kind = GRIDS.get(w.bits), kind_of(w)
    if grid is None or kind is None or w.shape[1] % WIDE or w.group_size % BLOCK or not exact16(w.scale):
        return None
    low, high = span(w)
    if not grid.least and (low < grid.lowest or high >= grid.lowest + 2**grid.bits):
        return None
    return grid if _room(grid.kind) < _room(kind) else None


def _room(kind: Kind) -> float:
    count, width = BYTES[kind]
    return width / count


Multiples = tuple[Float16[Tensor, "rows blocks"], Integer[Tensor, "rows blocks subs"]]
"""A number for each 256 inputs, and how many times it is taken in each of their sub-blocks."""


@dataclass(frozen=True)
class KQuant:
    """A matrix on ``grid``. ``codes`` (out, in * bits / 8): q - lowest, packed. ``scale``: d and sc. ``least``: dmin
    and m, None where the grid has none. ``off``: ||it - the artifact's|| / ||the artifact's||, 0 where each of its
    weights is the artifact's."""

    grid: Grid
    codes: UInt8[Tensor, "out bytes"]
    scale: Multiples
    least: Multiples | None
    off: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1] * 8 // self.grid.bits

    def raised(self, rows: slice) -> UInt8[Tensor, "rows blocks subs sub"]:
        """q - lowest of some rows."""
        return unpack(self.codes[rows], self.grid.bits).unflatten(1, (-1, WIDE // self.grid.sub, self.grid.sub))

    def dense(self, dtype: torch.dtype) -> Float[Tensor, "out in"]:
        """The weights in float32, as a reader of the file has them, then rounded to ``dtype``."""
        found = torch.empty(self.shape, dtype=dtype)
        for start in range(0, len(found), ROWS):
            part = slice(start, start + ROWS)
            q = self.raised(part).to(torch.int8) + self.grid.lowest
            least = None if self.least is None else (self.least[0][part], self.least[1][part])
            found[part] = decoded(q, (self.scale[0][part], self.scale[1][part]), least).flatten(1)
        return found


def decoded(
    q: Integer[Tensor, "rows blocks subs sub"], scale: Multiples, least: Multiples | None
) -> Float[Tensor, "rows blocks subs sub"]:
    """(d sc) q - dmin m, every step rounded to float32, as readers do."""
    found = q * spread(scale)[..., None]
    return found if least is None else found - spread(least)[..., None]


def spread(of: Multiples) -> Float[Tensor, "rows blocks subs"]:
    """The products, in float32."""
    return of[0].float()[..., None] * of[1]
