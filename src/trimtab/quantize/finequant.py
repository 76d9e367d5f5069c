"""FineQuant: each matrix takes groups as large as its weights allow; no data is read (Kim et al. 2023).

    g_0 = in,   g_(k+1) = g_k / 2   while   R(g_k / 2) < (1 - alpha) R(g_k)   and   g_k / 2 >= group_size

R(g) is the range that is rounded in groups of g: the root mean square, over all groups of the matrix, of max - min (of
2 max |w| where the grid is symmetric). The squared error of rounding is R^2 / (12 (2^bits - 1)^2) for weights that are
spread evenly, so alpha is the share of the error, as a length, that a halving must save. A matrix whose weights are of
one size stays on a scale for each row; outliers, which stretch the range of all that share their scale, get small
groups (arXiv 2308.09723, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.pack import period
from trimtab.core.threads import each
from trimtab.core.weight import Weight, check_grid, rows
from trimtab.quantize.grid import stored
from trimtab.quantize.rtn import RTN

NUMBERS = 2**18
"""Weights worked on at once."""


def halvings(width: int, least: int, bits: int) -> list[int]:
    """``width`` and its halves, while they are whole, not below ``least``, and ``bits`` fill whole bytes of them."""
    sizes = [width]
    while 0 < least <= sizes[-1] // 2 and sizes[-1] % (2 * period(bits)) == 0:
        sizes.append(sizes[-1] // 2)
    return sizes


def square_ranges(w: Float[Tensor, "rows n"], sizes: Sequence[int], symmetric: bool) -> Float[Tensor, " sizes"]:
    """For groups of each of ``sizes``, every one half of the one before: the sum over rows of the mean square range."""
    groups = w.unflatten(1, (-1, sizes[-1]))
    low, high = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
    found = []
    for size in reversed(sizes):
        if size != sizes[-1]:
            low, high = low.unflatten(1, (-1, 2)).amin(2), high.unflatten(1, (-1, 2)).amax(2)
        span = 2 * torch.maximum(-low, high) if symmetric else high - low
        found.append(span.double().square().mean(1).sum())
    return torch.stack(found[::-1])


def chosen(sizes: Sequence[int], ranges: Float[Tensor, " sizes"], alpha: float) -> int:
    """The size at which halving once more would not narrow the range by more than ``alpha``."""
    for size, coarse, fine in zip(sizes, ranges.sqrt(), ranges.sqrt()[1:], strict=False):
        if not fine < (1 - alpha) * coarse:
            return size
    return sizes[-1]


@dataclass(frozen=True)
class FineQuant:
    """``bits`` 2, 3, 4 or 8; ``group_size``: the fewest inputs that may share a scale (-1: the whole row always);
    ``alpha``: by what share a halving must narrow the range; ``symmetric`` stores no zero."""

    bits: int = 4
    group_size: int = 64
    alpha: float = 0.12
    symmetric: bool = True

    CARD: ClassVar[Card] = Card(
        name="finequant",
        family="quantize",
        title="FineQuant: Unlocking Efficiency with Fine-Grained Weight-Only Quantization for LLMs",
        year=2023,
        where="arXiv 2308.09723",
        saves="bytes",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        bounded=True,
        departures="The ranges of a matrix's groups are taken together by their root mean square, which is what the "
        "squared error of rounding follows; asymmetric grids and 2 and 3 bits are there too. The kernels are those of "
        "the CPU: 8 bits with a scale for each row, and 4 bits in groups that 32 divides.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check_grid(self.bits, width, width)
        if self.group_size < 1 and self.group_size != -1:
            raise ValueError(f"group_size: got {self.group_size}; accepted: 1 or more, the least group (nearest: 1), "
                             "or -1 for whole rows")  # fmt: skip
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha: got {self.alpha}; accepted: 0 to below 1, a share of the range (0.12 is usual)")

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape at most, with groups as small as they may become; weights decide."""
        least = halvings(width, self.group_size, self.bits)[-1]
        return stored(rows, width, self.bits, least, self.symmetric)

    def without_data(self) -> FineQuant:
        """The method for a table of which no input statistic exists: itself."""
        return self

    def group(self, w: Weight) -> int:
        """How many inputs of ``w`` share a scale."""
        sizes = halvings(w.shape[1], self.group_size, self.bits)
        parts = torch.split(torch.arange(w.shape[0]), max(1, NUMBERS // w.shape[1]))
        found = each(lambda index: square_ranges(rows(w, index).float(), sizes, self.symmetric), parts)
        return chosen(sizes, torch.stack(found).sum(0), self.alpha)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` rounded to nearest, ranges not clipped; ``site`` is not looked at."""
        self.check(w.shape[1])
        return RTN(self.bits, self.group(w), self.symmetric, clip=False)(w, site)
