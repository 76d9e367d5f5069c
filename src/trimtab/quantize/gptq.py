"""GPTQ: round column by column, and let the columns still to come make up for each error (Frantar et al. 2022).

Minimizes ||(W - Q) X||_F^2 = tr(D H D^T), D = W - Q, H = X X^T. When column i is fixed with error e_i, the best change
of the others is w_j -= e_i [H_F^-1]_ij / [H_F^-1]_ii over the columns F not yet fixed. With H^-1 = U^T U, U upper
triangular, row i of U holds all that step i needs: w_j -= (e_i / U_ii) U_ij for j > i (arXiv 2210.17323, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.hessian import check_damp, rooted
from trimtab.core.native import Swept, sweep
from trimtab.core.pack import pack
from trimtab.core.threads import each, evenly
from trimtab.core.weight import Quantized, Weight, rows
from trimtab.quantize.grid import check, decode, encode, fit_grid, shares, span, stored
from trimtab.quantize.rotation import check_rotation, mixed, turned
from trimtab.quantize.rtn import RTN

BLOCK = 128
"""Columns fixed before the rest of the row is brought up to date by one matrix product."""

CHUNK = 1024
"""Rows worked on at once, so that an embedding of 262,144 rows needs no second copy of itself."""


def solve(
    w: Float[Tensor, "n rows"], u: Float[Tensor, "n n"], weight: Float[Tensor, " n"], knobs: GPTQ, dtype: torch.dtype
) -> Swept:
    """Codes, scales and zeros of W^T (which is worked on in place), columns of W in order; ``core/native.py`` has the
    same compiled.

    A group's grid is fitted when its first column is reached, to the weights as updated by then. Within a block, column
    i gathers the errors of the columns before it; the columns behind the block get them by one product.
    """
    n, group = w.shape[0], span(knobs.group_size, w.shape[0])
    codes = torch.empty(w.shape, dtype=torch.uint8)
    scales, zeros = [], []
    for start in range(0, n, group):
        end = start + group
        scale, zero = fit_grid(w[start:end], weight[start:end], knobs.bits, knobs.symmetric, knobs.clip, dtype)
        scales.append(scale)
        zeros.append(zero)
        for a in range(start, end, BLOCK):
            b = min(a + BLOCK, end)
            errors = torch.empty_like(w[a:b])
            for i in range(a, b):
                column = torch.addmv(w[i], errors[: i - a].T, u[a:i, i], alpha=-1)
                code = encode(column, scale, zero, knobs.bits)
                codes[i] = code
                errors[i - a] = (column - decode(code, scale, zero, dtype)) / u[i, i]
            w[b:].addmm_(u[a:b, b:].T, errors, alpha=-1)
    return Swept(codes, torch.stack(scales), torch.stack(zeros))


@dataclass(frozen=True)
class GPTQ:
    """``bits`` 2, 3, 4 or 8; ``group_size`` inputs share a scale (-1: the whole row); ``symmetric`` stores no zero;
    ``damp_percent`` is added to the diagonal of H as a share of its mean; ``clip`` searches each group's range;
    ``act_order`` fixes groups, and columns within each, by falling second moment of the input, else as they stand;
    ``rotate``: the size of Hadamard blocks that mix the inputs before, 16 to 128 (0: none)."""

    bits: int = 4
    group_size: int = 64
    symmetric: bool = False
    damp_percent: float = 0.01
    clip: bool = True
    act_order: bool = True
    rotate: int = 0

    CARD: ClassVar[Card] = Card(
        name="gptq",
        family="quantize",
        title="GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
        year=2022,
        where="arXiv 2210.17323",
        saves="bytes",
        needs="data",
        baseline="rtn",
        guarantee="usual",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        departures="The range of a group is searched, weighted by the diagonal of H, on the updated weights; scales "
        "are rounded to the checkpoint's dtype first; columns whose input was always 0 are rounded to nearest, not set "
        "to 0; one Cholesky and one triangular inverse in place of three factorizations; groups, and columns within "
        "each, by falling second moment: the paper has the natural order, and its code's act-order parts a group's "
        "columns; rotation, off unless asked for, is not the paper's.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.bits, self.group_size, width)
        check_damp(self.damp_percent)
        check_rotation(self.rotate, width)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes, scales and zeros."""
        return stored(rows, width, self.bits, self.group_size, self.symmetric)

    def without_data(self) -> RTN:
        """The method for a table of which no input statistic exists: clipped rounding on the same grid."""
        return RTN(self.bits, self.group_size, self.symmetric, self.clip, self.rotate)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` on a grid. Raises BadInput without ``site.gram``, Anomaly where it cannot be factorized."""
        self.check(w.shape[1])
        size = span(self.group_size, w.shape[1])
        group = size if self.act_order else None
        order, diagonal, u = rooted(site, "gptq", self.damp_percent, group, self.rotate)
        weight, back, groups = diagonal + self.damp_percent, order.argsort(), order[::size].argsort()

        def part(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            wide = mixed(rows(w, index).detach(), self.rotate).T.contiguous().index_select(0, order).float()
            tries = shares(self.bits, self.clip)
            found = sweep(wide, u, weight, tries, self.bits, size, self.symmetric, w.dtype)
            codes, scale, zero = solve(wide, u, weight, self, w.dtype) if found is None else found
            return (
                pack(codes.index_select(0, back).T.contiguous(), self.bits),
                scale[groups].T.to(w.dtype),
                zero[groups].T.byte(),
            )

        packed, scale, zero = map(torch.cat, zip(*each(part, evenly(torch.arange(w.shape[0]), CHUNK)), strict=True))
        stored = None if self.symmetric else zero
        return turned(Quantized(packed, scale, stored, self.bits, size), self.rotate)
