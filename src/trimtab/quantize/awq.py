"""AWQ: inputs that matter are scaled up before their weights are rounded, and down again after (Lin et al. 2023).

    W ~ Q(W diag(s)) diag(1/s),    s = m^a,    m_j = mean |x_j| over the calibration tokens

A weight's error is half a step of its group whatever its size, so that of a scaled weight counts 1/s. The exponent a is
the best of 20 points in [0, 1), at a = 0 nothing is scaled; then each group's range is clipped (arXiv 2306.00978,
section 3.2). The loss of each try is ||(W - W') X||_F^2 = tr(D H D^T), D = W - W', H = X X^T: no forward is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.factors import Diagonal
from trimtab.core.fit import Site
from trimtab.core.hessian import live, seen
from trimtab.core.joins import Chain
from trimtab.core.pack import pack
from trimtab.core.threads import each
from trimtab.core.weight import Quantized, Weight, rows
from trimtab.quantize.grid import check, decode, encode, fit_grid, span, stored
from trimtab.quantize.rtn import RTN

POINTS = 20
"""Exponents that are tried."""
LEAST = 1e-4
"""Of the largest scale, before both ends are brought to either side of 1."""
NUMBERS = 2**18
"""Weights worked on at once."""


def scales(size: Float[Tensor, " n"], exponent: float) -> Float[Tensor, " n"]:
    """s = m^a, over the geometric mean of its largest and its smallest; m is taken against its largest.

    1 where m is 0: an input that calibration never used tells nothing, and its weights would be lost."""
    used = size > 0
    if not used.any():
        return torch.ones_like(size)
    grown = (size / size.max()).pow(exponent).clamp(min=LEAST)
    return torch.where(used, grown / (grown[used].max() * grown[used].min()).sqrt(), 1.0)


class Rounded(NamedTuple):
    """A matrix on a grid, transposed: ``codes`` (n, rows) still as floats, ``scale`` and ``zero`` (groups, rows)."""

    codes: Tensor
    scale: Tensor
    zero: Tensor

    def values(self, dtype: torch.dtype) -> Float[Tensor, "n rows"]:
        """What ``Quantized.dense`` will give, transposed."""
        grouped = self.codes.unflatten(0, (len(self.scale), -1))
        return decode(grouped, self.scale[:, None], self.zero[:, None], dtype).flatten(0, 1)


def nearest(
    w: Float[Tensor, "n rows"], weight: Float[Tensor, " n"], knobs: AWQ, clip: bool, dtype: torch.dtype
) -> Rounded:
    """W^T rounded to nearest, group by group; ``weight`` is what an input's squared error counts in the clip search."""
    size, found = span(knobs.group_size, len(w)), list[tuple[Tensor, Tensor, Tensor]]()
    for group, counts in zip(w.split(size), weight.split(size), strict=True):
        scale, zero = fit_grid(group, counts, knobs.bits, knobs.symmetric, clip, dtype)
        found.append((encode(group, scale, zero, knobs.bits), scale, zero))
    codes, steps, zeros = zip(*found, strict=True)
    return Rounded(torch.cat(codes), torch.stack(steps), torch.stack(zeros))


def lost(d: Float[Tensor, "n rows"], h: Float[Tensor, "n n"]) -> Float[Tensor, " rows"]:
    """d H d^T for each row d of D."""
    return ((h @ d) * d).sum(0)


def exponent(
    w: Weight, parts: Sequence[Tensor], backs: Float[Tensor, "points n"], h: Float[Tensor, "n n"], knobs: AWQ
) -> int:
    """Which of ``backs``, 1/s for each exponent, loses least over all ``parts`` of the rows, ranges not clipped."""
    even = torch.ones(len(h))

    def losses(index: Tensor) -> Tensor:
        wide = rows(w, index).float().T.contiguous()
        tried = (nearest(wide / back[:, None], even, knobs, False, w.dtype).values(w.dtype) for back in backs)
        return torch.stack([lost(wide - q * back[:, None], h).sum() for q, back in zip(tried, backs, strict=True)])

    return int(torch.stack(each(losses, parts)).sum(0).argmin())


def clipped(
    wide: Float[Tensor, "n rows"], back: Float[Tensor, " n"], h: Float[Tensor, "n n"], knobs: AWQ, dtype: torch.dtype
) -> tuple[Rounded, Float[Tensor, " rows"]]:
    """W^T with its inputs scaled by 1 / ``back``, rounded; ranges clipped in the rows that lose less so; each loss."""
    counts = torch.where(live(h), h.diagonal(), 1.0)  # of inputs that were always 0 the mean of the others
    found = [nearest(wide / back[:, None], counts * back**2, knobs, clip, dtype)
             for clip in ((False, True) if knobs.clip else (False,))]  # fmt: skip
    losses = [lost(wide - made.values(dtype) * back[:, None], h) for made in found]
    better = losses[-1] < losses[0]
    chosen = (torch.where(better, tight, full) for tight, full in zip(found[-1], found[0], strict=True))
    return Rounded(*chosen), torch.where(better, losses[-1], losses[0])


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
        h, width = seen(site, "awq"), w.shape[1]
        assert site.gram is not None
        size = site.gram.mean_abs()
        backs = torch.stack([1 / scales(size, i / POINTS) for i in range(POINTS)]).to(w.dtype).float()
        parts = torch.split(torch.arange(w.shape[0]), max(1, NUMBERS // width))
        back, plain = backs[exponent(w, parts, backs, h, self)], self.without_data()(w, site)

        def part(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            wide = rows(w, index).float().T.contiguous()
            (codes, scale, zero), losses = clipped(wide, back, h, self, w.dtype)
            gained = lost(wide - rows(plain, index).float().T, h).sum() - losses.sum()
            return pack(codes.T.byte().contiguous(), self.bits), scale.T.to(w.dtype), zero.T.byte(), gained[None]

        packed, scale, zero, gained = map(torch.cat, zip(*each(part, parts), strict=True))
        if gained.sum() <= 0:
            return Chain([plain, Diagonal(torch.ones(width, dtype=w.dtype))])
        stored_zero = None if self.symmetric else zero
        quantized = Quantized(packed, scale, stored_zero, self.bits, span(self.group_size, width))
        return Chain([quantized, Diagonal(back.to(w.dtype))])
