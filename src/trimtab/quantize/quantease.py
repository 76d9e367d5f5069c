"""QuantEase: from a matrix on a grid, one column after another moves to its best point (Behdin et al. 2023).

Minimizes ||(W - Q) X||_F^2 = tr((W - Q) H (W - Q)^T), H = X X^T, by cyclic coordinate descent: column j of all rows is
set to

    q_grid( ((W H)_j - sum_{k != j} Q_k H_kj) / H_jj )

a few times over, without an inverse, so that the error of what it started from (GPTQ's codes) can only fall. With
``outliers``, W ~ Q + S where S has a share of the entries in the checkpoint's dtype: it begins as the largest weights,
which stretch no grid then, and goes on by iterative hard thresholding in turn with the sweeps (arXiv 2309.01885,
algorithms 2 and 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.hessian import check_damp, seen
from trimtab.core.joins import Sum
from trimtab.core.pack import pack, unpack
from trimtab.core.sparse import Masked, column_dtype, masked_bits
from trimtab.core.threads import each
from trimtab.core.weight import Dense, Quantized, Weight, rows
from trimtab.quantize.descent import Few, Grid, largest, step_rate, sweep, threshold
from trimtab.quantize.gptq import GPTQ
from trimtab.quantize.grid import check, stored
from trimtab.quantize.rtn import RTN

PART = 1024
"""Rows worked on at once, and within which the share of outliers is kept."""


@dataclass(frozen=True)
class QuantEase:
    """``bits``, ``group_size``, ``symmetric``, ``damp_percent``, ``clip``: of the grid and of its ``start``, as in GPTQ
    and RTN. ``sweeps`` over all columns at most; ``outliers``: the share of weights kept beside the grid, 0 to 0.1."""

    bits: int = 4
    group_size: int = 64
    symmetric: bool = False
    damp_percent: float = 0.01
    clip: bool = True
    start: Literal["gptq", "rtn"] = "gptq"
    sweeps: int = 4
    outliers: float = 0.0

    CARD: ClassVar[Card] = Card(
        name="quantease",
        family="quantize",
        title="QuantEase: Optimization-based Quantization for Language Models",
        year=2023,
        where="arXiv 2309.01885",
        saves="bytes",
        needs="data",
        baseline="gptq",
        guarantee="always",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        departures="It starts from GPTQ's codes (start: rtn for the authors'), every sweep is on the grid where they "
        "leave it in some, and it ends when nothing moves. A code moves only where it gains after rounding to the "
        "checkpoint's dtype. Outliers are as many in every 1,024 rows, not in the matrix as a whole. An embedding, of "
        "which no input is seen, is rounded to nearest, its outliers by size.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.bits, self.group_size, width)
        check_damp(self.damp_percent)
        if self.sweeps < 0:
            raise ValueError(f"sweeps: got {self.sweeps}; accepted: 0 (only the start) or more (nearest: 0)")
        if not 0 <= self.outliers <= 0.1:
            raise ValueError(f"outliers: got {self.outliers}; accepted: 0 to 0.1, a share of the weights (0.01 is 1 %)")

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: the grid, and outliers with their places."""
        found = stored(rows, width, self.bits, self.group_size, self.symmetric)
        if not self.outliers:
            return found
        counts = [self.count(len(part), width) for part in torch.split(torch.arange(rows), PART)]
        return found + masked_bits(rows, width, sum(counts))

    def count(self, rows: int, width: int) -> int:
        """How many outliers so many rows have."""
        return round(self.outliers * rows * width)

    def without_data(self) -> QuantEase:
        """The method for a table of which no input statistic exists: rounding to nearest, with outliers by size."""
        return replace(self, start="rtn", sweeps=0)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` on a grid, and its outliers beside. Raises BadInput without ``site.gram``, Anomaly where that holds no
        numbers or GPTQ cannot factorize it."""
        self.check(w.shape[1])
        h = seen(site, "quantease") if self.sweeps else torch.zeros(0, 0)
        live = (h.diagonal() > 0).tolist()
        rate = step_rate(h) if self.outliers and self.sweeps else 0.0
        parts = torch.split(torch.arange(w.shape[0]), PART)
        kept = each(lambda index: self.held(columns(w, index), w.dtype), parts) if self.outliers else []
        start = self.begun(without(w, kept) if kept else w, site)

        def part(index: Tensor) -> tuple[Tensor, Few]:
            few = kept[int(index[0]) // PART] if kept else Few(index[:0], torch.zeros(0))
            grid, d = grid_of(start, index), columns(w, index)
            d = d - grid.values - few.spread(d)
            for _ in range(self.sweeps):
                moved = sweep(d, grid, h, live)
                if kept:
                    d, few = threshold(d, few, h, rate)
                elif not moved:
                    break
            return pack(grid.codes.T.byte().contiguous(), self.bits), few

        codes, kept_now = zip(*each(part, parts), strict=True)
        found = Quantized(torch.cat(codes), start.scale, start.zero, start.bits, start.group_size)
        return Sum([found, gathered(kept_now, w.shape)]) if kept else found

    def held(self, w: Float[Tensor, "n rows"], dtype: torch.dtype) -> Few:
        """The outliers of a part of W^T to begin with."""
        return largest(w, self.count(w.shape[1], w.shape[0]), dtype)

    def begun(self, w: Weight, site: Site) -> Quantized:
        """``w`` on the grid that is kept from then on."""
        knobs = (self.bits, self.group_size, self.symmetric)
        fit = GPTQ(*knobs, self.damp_percent, self.clip) if self.start == "gptq" else RTN(*knobs, self.clip)
        found = fit(w, site)
        assert isinstance(found, Quantized)
        return found


def columns(w: Weight, index: Integer[Tensor, " rows"]) -> Float[Tensor, "n rows"]:
    """Rows of ``w`` as columns, in float32."""
    return rows(w, index).detach().float().T.contiguous()


def without(w: Weight, kept: Sequence[Few]) -> Dense:
    """``w`` with 0 where outliers stand beside it."""
    left = w.dense().detach().clone(memory_format=torch.contiguous_format)
    for part, few in zip(torch.split(left, PART), kept, strict=True):
        part.view(-1)[few.at] = 0
    return Dense(left)


def grid_of(w: Quantized, index: Integer[Tensor, " rows"]) -> Grid:
    """The codes of some rows, and their grid."""
    scale = w.scale[index].float().T
    zero = torch.full_like(scale, 2 ** (w.bits - 1)) if w.zero is None else w.zero[index].float().T
    return Grid.of(unpack(w.codes[index], w.bits).float().T.contiguous(), scale, zero, w.bits, w.dtype)


def gathered(kept: Sequence[Few], shape: tuple[int, int]) -> Masked:
    """The outliers of all parts as one matrix."""
    count, width = shape
    at = torch.cat([few.at + number * PART * width for number, few in enumerate(kept)])
    ends = torch.bincount(at // width, minlength=count).cumsum(0)
    pointer, column = torch.cat([ends.new_zeros(1), ends]).int(), (at % width).to(column_dtype(width))
    return Masked(torch.cat([few.values for few in kept]), None, column, pointer, width).smaller()
