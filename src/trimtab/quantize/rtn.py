"""Round to nearest: each weight takes the nearest point of its group's grid. No data, no error feedback.

The grid of a group is its min-max range or, with ``clip``, the shrunken range of least squared error. Jacob et al.
2018 describe the arithmetic; this is the baseline that every quantizer here must beat at equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.native import sweep
from trimtab.core.pack import pack
from trimtab.core.threads import each
from trimtab.core.weight import Quantized, Weight
from trimtab.quantize.grid import check, encode, fit_grid, shares, span, stored
from trimtab.quantize.rotation import check_rotation, mixed, turned

NUMBERS = 2**18
"""Weights worked on at once: they stay in a core's cache, and an embedding of 262,144 rows needs no second copy."""


@dataclass(frozen=True)
class RTN:
    """``bits`` 2, 3, 4 or 8; ``group_size`` inputs share a scale (-1: the whole row); ``symmetric`` stores no zero;
    ``clip`` searches the range by squared error, else it is min-max; ``rotate``: the size of Hadamard blocks that mix
    the inputs, 16 to 128 (0: none)."""

    bits: int = 4
    group_size: int = 64
    symmetric: bool = False
    clip: bool = True
    rotate: int = 0

    CARD: ClassVar[Card] = Card(
        name="rtn",
        family="quantize",
        title="Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        year=2018,
        where="arXiv 1712.05877",
        saves="bytes",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        departures="Weights only, per group of inputs; the range of a group is searched by squared error unless clip "
        "is off; rotation, off unless asked for, is not in it.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.bits, self.group_size, width)
        check_rotation(self.rotate, width)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes, scales and zeros."""
        return stored(rows, width, self.bits, self.group_size, self.symmetric)

    def without_data(self) -> RTN:
        """The method for a table of which no input statistic exists: itself."""
        return self

    def __call__(self, w: Weight, site: Site) -> Weight:
        """The nearest codes of ``w``, row by row; ``site`` is not looked at."""
        return turned(self.rounded(w.dense().detach(), w.dtype), self.rotate)

    def rounded(self, w: Float[Tensor, "out in"], dtype: torch.dtype) -> Quantized:
        """The nearest codes of a matrix (of W H where it is rotated), scales in ``dtype``."""
        self.check(w.shape[1])
        group = span(self.group_size, w.shape[1])

        def part(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            groups = mixed(rows, self.rotate).float().reshape(-1, group).T.contiguous()  # every group a row of its own
            even, tries = torch.ones(group), shares(self.bits, self.clip)
            found = sweep(groups, None, even, tries, self.bits, group, self.symmetric, dtype)
            if found is None:
                scale, zero = fit_grid(groups, even, self.bits, self.symmetric, self.clip, dtype)
                codes = encode(groups, scale, zero, self.bits).to(torch.uint8)
            else:
                codes, scale, zero = found
            codes = codes.T.reshape(rows.shape)
            return pack(codes, self.bits), scale.view(len(rows), -1).to(dtype), zero.view(len(rows), -1).byte()

        parts = torch.split(w, max(1, NUMBERS // w.shape[1]))
        packed, scale, zero = map(torch.cat, zip(*each(part, parts), strict=True))
        return Quantized(packed, scale, None if self.symmetric else zero, self.bits, group)
