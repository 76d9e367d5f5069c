"""EoRA: what compression lost of a layer, given back where its inputs are large (Liu et al. 2024).

With the original W, the compressed W_c and the inputs' second moment H = X X^T = Q L Q^T:

    (W - W_c) Q L^1/2 = U S V^T,    B = U_r S_r^1/2,    A = S_r^1/2 V_r^T L^-1/2 Q^T

and the layer runs as W_c + B A. No other B A of rank r has a smaller ||(W - W_c - B A) X||_F^2, which is the sum of the
squared singular values left out (arXiv 2410.21271, section 3). Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.hessian import seen
from trimtab.core.joins import Sum
from trimtab.core.weight import Weight
from trimtab.factorize.residue import check_rank, residue
from trimtab.factorize.svd import SVD


@dataclass(frozen=True)
class EoRA:
    """``r``: the rank of what is added, 16 r (in + out) bits of a matrix."""

    r: int = 16

    CARD: ClassVar[Card] = Card(
        name="eora",
        family="factorize",
        title="EoRA: Fine-tuning-free Compensation for Compressed LLM with Eigenspace Low-Rank Approximation",
        year=2024,
        where="arXiv 2410.21271",
        saves="none",
        needs="data",
        wants_source=True,
        baseline="svd",
        guarantee="always",
        establishes=("low_rank",),
        preserves=("on_grid", "masked", "low_rank", "tokens_kept", "cache_kept"),
        departures="Inputs are those of the compressed model, gathered layer by layer as the layers before are "
        "compensated. Where a matrix has no more rows than columns, B and A come from the eigenvectors of "
        "(W - W_c) H (W - W_c)^T, which give the same product without a root of H; elsewhere eigenvalues of H below a "
        "millionth of the largest are raised to it. B and A stay in 16 bits. An embedding, of which no input is seen, "
        "gets the plain truncated SVD.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where a matrix of that shape has no such rank."""
        check_rank(self.r, width, rows)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: what there was, and both factors."""
        return before + 16 * self.r * (rows + width)

    def without_data(self) -> SVD:
        """The method where nothing is known of the input: all of it is taken to be alike."""
        return SVD(self.r)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` and what makes up for ``site.source() - w``. Raises BadInput without ``site.gram``, Anomaly where that
        holds no numbers."""
        self.check(w.shape[1], w.shape[0])
        return Sum([w, residue(w, site, seen(site, "eora"), self.r)])
