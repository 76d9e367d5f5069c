"""AWQ: inputs that matter are scaled up before their weights are rounded, and down again after (Lin et al. 2023).

    W ~ Q(W diag(s)) diag(1/s),    s = m^a,    m_j = mean |x_j| over the calibration tokens

A weight's error is half a step of its group whatever its size, so that of a scaled weight counts 1/s. The exponent a is
the best of 20 points in [0, 1), at a = 0 nothing is scaled; then each group's range is clipped (arXiv 2306.00978,
section 3.2). The loss of each try is ||(W - W') X||_F^2 = tr(D H D^T), D = W - W', H = X X^T: no forward is run. The
search itself is in ``scaled.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.hessian import live, seen
from trimtab.core.products import product
from trimtab.core.weight import Weight
from trimtab.quantize.grid import check, stored
from trimtab.quantize.rtn import RTN
from trimtab.quantize.scaled import Input, fitted


def lost(d: Float[Tensor, "n rows"], h: Float[Tensor, "n n"]) -> Float[Tensor, " rows"]:
    """d H d^T for each row d of D; products in the dtype of H."""
    return (product(h, d.to(h.dtype)) * d).sum(0)


@dataclass(frozen=True)
class AWQ:
    """``bits`` 2, 3, 4 or 8; ``group_size`` inputs share a scale (-1: the whole row); ``symmetric`` stores no zero;
    ``clip`` searches each group's range, row by row where that loses less than min-max."""

    bits: int = 4
    group_size: int = 64
    symmetric: bool = False
    clip: bool = True

    CARD: ClassVar[Card] = Card(
        name="awq",
        family="quantize",
        title="AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
        year=2023,
        where="MLSys 2024, arXiv 2306.00978",
        saves="bytes",
        needs="data",
        baseline="rtn",
        guarantee="usual",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        departures="1/s is kept beside the codes (one 16-bit number for each input) and not folded into the operation "
        "before, so that every linear can be scaled, each with an exponent of its own where the authors give one to "
        "linears that share an input; the loss is the linear's own, by its Gram matrix, not its block's; a range is "
        "clipped by each group's squared error weighted by the diagonal of H, the queries' and keys' too, and only in "
        "rows whose output gains; inputs that were always 0 are not scaled, and count as others do when a range is "
        "clipped; where rounding to nearest with the same knobs loses less, it stays.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.bits, self.group_size, width)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes, scales and zeros, and a factor for each input."""
        return stored(rows, width, self.bits, self.group_size, self.symmetric) + 16 * width

    def without_data(self) -> RTN:
        """The method for a table of which no input statistic exists: clipped rounding on the same grid."""
        return RTN(self.bits, self.group_size, self.symmetric, self.clip)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` on a grid, scaled. Raises BadInput without ``site.gram``, Anomaly where that holds no numbers."""
        self.check(w.shape[1])
        h = seen(site, "awq")
        assert site.gram is not None
        rounded = h.bfloat16() if w.dtype == torch.bfloat16 else h  # the same measure for all that are compared
        given = Input(site.gram.mean_abs(), torch.where(live(h), h.diagonal(), 1.0), lambda d: lost(d, rounded))
        return fitted(w, self.without_data()(w, site), given, self)
