"""Wanda: a weight is worth its size times the size of what it multiplies (Sun et al. 2023).

    S_ij = |W_ij| * ||X_j||_2

over the calibration tokens, compared within each row: setting w_ij to 0 alone changes the row's output on them by just
S_ij (arXiv 2306.11695, section 3). Nothing is updated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.errors import BadInput
from trimtab.core.fit import Site
from trimtab.core.sparse import Masked
from trimtab.core.threads import each, evenly
from trimtab.core.weight import Weight
from trimtab.prune.magnitude import Magnitude
from trimtab.prune.pattern import check, kept, stored

CHUNK = 4096
"""Rows whose scores are held at once."""


@dataclass(frozen=True)
class Wanda:
    """``keep``: the share of each row's weights that stays; ``pattern`` "n:m": n of every m in a row (``keep`` is n / m
    then)."""

    keep: float = 0.5
    pattern: str | None = None

    CARD: ClassVar[Card] = Card(
        name="wanda",
        family="prune",
        title="A Simple and Effective Pruning Approach for Large Language Models",
        year=2023,
        where="arXiv 2306.11695",
        saves="bytes",
        needs="data",
        baseline="magnitude",
        guarantee="usual",
        establishes=("masked",),
        preserves=("tokens_kept", "cache_kept"),
        wants_moment=False,
        sees="before",
        departures="An embedding, of which no input is seen, is pruned by magnitude. Inputs are those of the model as "
        "it was before the step, in one pass; the authors prune block by block, each on what the pruned ones before "
        "show it. Nothing is changed to make up for what was pruned, so there is nothing to gain by seeing it "
        "(docs/prune.md has the figure).",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.keep, self.pattern, width)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: the mask and what stays."""
        return stored(rows, width, self.keep)

    def without_data(self) -> Magnitude:
        """The method where nothing is known of the input: all of it is taken to be of one size."""
        return Magnitude(self.keep, self.pattern)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` without its least entries. Raises BadInput without ``site.gram``."""
        self.check(w.shape[1])
        if site.gram is None:
            raise BadInput(f"{site.name}: wanda needs calibration data, and no input was seen (accepted: site.gram)")
        dense, norms = w.dense().detach(), site.gram.squares.sqrt()

        def part(rows: Tensor) -> Tensor:
            return kept(rows.float().abs() * norms, self.keep, self.pattern)

        return Masked.of(dense, torch.cat(each(part, evenly(dense, CHUNK))))
