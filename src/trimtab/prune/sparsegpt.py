"""SparseGPT: leave weights out column by column, and let the columns still to come make up for each (Frantar 2023).

Leaving w_i out is quantizing it to 0: with H = X X^T, H^-1 = U^T U and U upper triangular, it costs (w_i / U_ii)^2 of
||(W - W') X||_F^2 once the columns before i are fixed, and the best change of those behind it is

    w_j -= (w_i / U_ii) U_ij    for j > i

Which weights go is decided by that cost for 128 columns at a time, on the weights as updated by then; for n:m at each m
columns (arXiv 2301.00774, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.hessian import check_damp, live, rooted
from trimtab.core.pack import pack
from trimtab.core.sparse import Masked
from trimtab.core.threads import each
from trimtab.core.weight import Weight, rows
from trimtab.prune.magnitude import Magnitude
from trimtab.prune.pattern import best, check, most, parse, stored

BLOCK = 128
"""Columns whose mask is chosen at once, and before which the rest of the row is brought up to date."""
CHUNK = 4096
"""Rows worked on at once."""


def solve(
    w: Float[Tensor, "n rows"], u: Float[Tensor, "n n"], counts: Float[Tensor, " n"], knobs: SparseGPT
) -> Bool[Tensor, "n rows"]:
    """Which entries of W^T stay. ``w`` is worked on in place: it ends as what they are changed to, 0 where none stays.

    ``counts`` is 0 for inputs whose weights cost nothing, else 1. Within a block, column i gathers the errors of the
    columns before it; the columns behind the block get them by one product.
    """
    n = len(w)
    few, size = (0, BLOCK) if knobs.pattern is None else parse(knobs.pattern)
    step = size * max(1, BLOCK // size)
    worth, mask = counts / u.diagonal().square(), torch.empty(w.shape, dtype=torch.bool)
    for a in range(0, n, step):
        b = min(a + step, n)
        errors = torch.empty_like(w[a:b])
        for i in range(a, b):
            if (i - a) % size == 0:
                ahead = slice(i, min(i + size, b))
                now = torch.addmm(w[ahead], u[a:i, ahead].T, errors[: i - a], alpha=-1)
                count = few or most(knobs.keep, n) * ahead.stop // n - most(knobs.keep, n) * i // n
                mask[ahead] = best((now.square() * worth[ahead, None]).T, count).T
            column = torch.addmv(w[i], errors[: i - a].T, u[a:i, i], alpha=-1)
            w[i] = column * mask[i]
            errors[i - a] = column * ~mask[i] / u[i, i]
        w[b:].addmm_(u[a:b, b:].T, errors, alpha=-1)
    return mask


@dataclass(frozen=True)
class SparseGPT:
    """``keep``: the share of each row's weights that stays; ``pattern`` "n:m": n of every m in a row (``keep`` is n / m
    then); ``damp_percent`` is added to the diagonal of H as a share of its mean."""

    keep: float = 0.5
    pattern: str | None = None
    damp_percent: float = 0.01

    CARD: ClassVar[Card] = Card(
        name="sparsegpt",
        family="prune",
        title="SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
        year=2023,
        where="ICML 2023, arXiv 2301.00774",
        saves="bytes",
        needs="data",
        baseline="magnitude",
        guarantee="usual",
        establishes=("masked",),
        preserves=("tokens_kept", "cache_kept"),
        departures="As many weights stay in every row of a block of 128 columns, where the authors rank a block's rows "
        "together: every row keeps the same share, as with the other pruners here, and rows can be worked on apart. "
        "Weights whose input was always 0 go first, but one that stays is not set to 0; one Cholesky and one "
        "triangular inverse in place of three factorizations. An embedding, of which no input is seen, is pruned by "
        "magnitude.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.keep, self.pattern, width)
        check_damp(self.damp_percent)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: the mask and what stays."""
        return stored(rows, width, self.keep)

    def without_data(self) -> Magnitude:
        """The method where nothing is known of the input: all of it is taken to be of one size."""
        return Magnitude(self.keep, self.pattern)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` with its costliest entries, changed. Raises BadInput without ``site.gram``, Anomaly where that cannot
        be factorized."""
        self.check(w.shape[1])
        u = rooted(site, "sparsegpt", self.damp_percent).root
        assert site.gram is not None
        counts = live(site.gram.read()).float()

        def part(index: Tensor) -> tuple[Tensor, Tensor]:
            wide = rows(w, index).float().T.contiguous()
            mask = solve(wide, u, counts, self).T.contiguous()
            return wide.T[mask].to(w.dtype), pack(mask.byte(), 1)

        parts = torch.split(torch.arange(w.shape[0]), CHUNK)
        values, mask = map(torch.cat, zip(*each(part, parts), strict=True))
        return Masked(values, mask).smaller()
