"""Merging: what stands beside a matrix is added into it, and no call is slower for it.

    W' = W + s B A

A 16-bit W becomes the sum; a pruned one takes it where its mask is (the correction of ``lora`` has no other part). On a
grid the sum does not lie: it is refused, or with ``requantize`` rounded to the nearest points of a grid of the same
bits and group (or the nearest levels, on NF4 or 4-bit floats), and the error of that is in the layer's row of the
report. What training gained may be lost in it.

Source: Hu et al. 2021, arXiv 2106.09685, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.codebook import Codebook
from trimtab.core.factors import LowRank
from trimtab.core.joins import leaves
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight

Round = Callable[[Float[Tensor, "out in"], Quantized | Codebook], Weight]
"""A matrix put on a grid, or on levels, like those of the quantized one."""


@dataclass(frozen=True)
class Merge:
    """``requantize``: round the sum to the grid of a quantized base, where it is refused otherwise."""

    requantize: bool = False

    CARD: ClassVar[Card] = Card(
        name="merge",
        family="adapt",
        title="LoRA: Low-Rank Adaptation of Large Language Models",
        year=2021,
        where="ICLR 2022, arXiv 2106.09685",
        saves="none",
        establishes=("on_grid", "masked"),
        preserves=("tokens_kept", "cache_kept"),
        consumes=("adapter", "low_rank", "on_grid", "masked"),
        departures="A quantized base is rounded again by min-max with the search of RTN (on levels: to the nearest, by "
        "nf4 or fp4, not rotated), not by the method that made it: calibration was on other weights.",
    )

    def check(self, width: int) -> None:
        """Any matrix can be merged."""

    def __call__(self, w: Weight, name: str, rounded: Round) -> Weight:
        """``w`` as one leaf, or itself where nothing was ``added``. Raises ValueError, naming the layer, for one on a
        grid unless that was allowed; then ``rounded`` puts the sum on its grid."""
        if not added(w):
            return w
        dense, inside = w.dense().detach(), list(leaves(w))
        grids = [leaf for leaf in inside if isinstance(leaf, Quantized | Codebook)]
        masks = [leaf for leaf in inside if isinstance(leaf, Masked)]
        if grids and not self.requantize:
            first = grids[0]
            grid = f"levels of {first.levels}" if isinstance(first, Codebook) else f"a grid of {first.bits} bits"
            raise ValueError(
                f"requantize: {name} is on {grid}, where its sum with the adapter does not "
                "lie; accepted: true (rounded again, with its error stated), or no merge"
            )
        if grids:
            return rounded(dense, grids[0])
        return Masked.of(dense, masks[0].kept()) if masks else Dense(dense)


def added(w: Weight) -> bool:
    """Whether thin factors stand in the expression: beside a matrix (LoRA, EoRA), or within DoRA's magnitudes."""
    return any(isinstance(leaf, LowRank) for leaf in leaves(w))
