"""A plain truncated SVD of what compression lost, the control that EoRA must beat: B A = U_r S_r V_r^T of W - W_c.

No matrix of rank r is closer to W - W_c (Eckart and Young 1936); which inputs the layer sees is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.joins import Sum
from trimtab.core.weight import Weight
from trimtab.factorize.residue import check_rank, residue


@dataclass(frozen=True)
class SVD:
    """``r``: the rank of what is added, 16 r (in + out) bits of a matrix."""

    r: int = 16

    CARD: ClassVar[Card] = Card(
        name="svd",
        family="factorize",
        title="The approximation of one matrix by another of lower rank",
        year=1936,
        where="Psychometrika 1",
        saves="none",
        wants_source=True,
        establishes=("low_rank",),
        preserves=("on_grid", "masked", "low_rank", "tokens_kept", "cache_kept"),
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where a matrix of that shape has no such rank."""
        check_rank(self.r, width, rows)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: what there was, and both factors."""
        return before + 16 * self.r * (rows + width)

    def without_data(self) -> SVD:
        """The method where nothing is known of the input: itself."""
        return self

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` and what makes up for most of ``site.source() - w``."""
        self.check(w.shape[1], w.shape[0])
        return Sum([w, residue(w, site, torch.eye(w.shape[1]), self.r)])
