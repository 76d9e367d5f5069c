"""Magnitude pruning: of every row the largest weights stay. No data: the control that every pruner here must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.sparse import Masked
from trimtab.core.weight import Weight
from trimtab.prune.pattern import check, kept, stored


@dataclass(frozen=True)
class Magnitude:
    """``keep``: the share of each row's weights that stays; ``pattern`` "n:m": n of every m in a row (``keep`` is n / m
    then)."""

    keep: float = 0.5
    pattern: str | None = None

    CARD: ClassVar[Card] = Card(
        name="magnitude",
        family="prune",
        title="Learning both Weights and Connections for Efficient Neural Networks",
        year=2015,
        where="arXiv 1506.02626",
        saves="bytes",
        establishes=("masked",),
        preserves=("tokens_kept", "cache_kept"),
        departures="The largest of each row stay, not of the layer, so that it leaves as many as Wanda does in every "
        "row; nothing is trained afterwards.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.keep, self.pattern, width)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: the mask and what stays."""
        return stored(rows, width, self.keep)

    def without_data(self) -> Magnitude:
        """The method where nothing is known of the input: itself."""
        return self

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` without its smallest entries; ``site`` is not looked at."""
        self.check(w.shape[1])
        dense = w.dense().detach()
        return Masked.of(dense, kept(dense.float().abs(), self.keep, self.pattern))
