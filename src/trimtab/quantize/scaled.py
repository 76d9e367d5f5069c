"""Weights whose inputs are scaled before they are rounded: what AWQ and MBQ share. Pure functions.

    W ~ Q(W diag(s)) diag(1/s),    s = m^a,    m_j = mean |x_j|

The exponent a is the best of 20 points in [0, 1), at a = 0 nothing is scaled; then the range of each group is clipped,
row by row where that loses less. ``Loss`` says what a difference D = W - W' costs: the methods differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.factors import Diagonal
from trimtab.core.joins import Chain
from trimtab.core.native import lost, sweep
from trimtab.core.pack import pack
from trimtab.core.threads import each
from trimtab.core.weight import Quantized, Weight, rows
from trimtab.quantize.grid import decode, encode, fit_grid, shares, span

POINTS = 20
"""Exponents that are tried."""
LEAST = 1e-4
"""Of the largest scale, before both ends are brought to either side of 1."""
NUMBERS = 2**18
"""Weights worked on at once."""

Loss = Callable[[Float[Tensor, "n rows"]], Float[Tensor, " rows"]]
"""Of D transposed, what each row of D costs."""


@runtime_checkable
class Knobs(Protocol):
    """The grid, and whether ranges are clipped."""

    @property
    def bits(self) -> int: ...
    @property
    def group_size(self) -> int: ...
    @property
    def symmetric(self) -> bool: ...
    @property
    def clip(self) -> bool: ...


@dataclass(frozen=True)
class Input:
    """What is known of a layer's input: ``size`` m, ``counts`` what an error of each input costs, squared (the diagonal
    of its second moment; 1 of those that were always 0), and the ``loss``."""

    size: Float[Tensor, " n"]
    counts: Float[Tensor, " n"]
    loss: Loss


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
    w: Float[Tensor, "n rows"], weight: Float[Tensor, " n"], knobs: Knobs, clip: bool, dtype: torch.dtype
) -> Rounded:
    """W^T rounded to nearest, group by group; ``weight`` is what an input's squared error counts in the clip search."""
    size, found = span(knobs.group_size, len(w)), list[tuple[Tensor, Tensor, Tensor]]()
    fast = sweep(w, None, weight, shares(knobs.bits, clip), knobs.bits, size, knobs.symmetric, dtype)
    if fast is not None:
        return Rounded(fast.codes.float(), fast.scale, fast.zero)
    for group, counts in zip(w.split(size), weight.split(size), strict=True):
        scale, zero = fit_grid(group, counts, knobs.bits, knobs.symmetric, clip, dtype)
        found.append((encode(group, scale, zero, knobs.bits), scale, zero))
    codes, steps, zeros = zip(*found, strict=True)
    return Rounded(torch.cat(codes), torch.stack(steps), torch.stack(zeros))


def off(
    w: Float[Tensor, "n rows"], back: Float[Tensor, " n"], knobs: Knobs, dtype: torch.dtype
) -> Float[Tensor, "n rows"]:
    """What W^T loses by being rounded to nearest, ranges not clipped, with its inputs scaled by 1 / ``back``."""
    size = span(knobs.group_size, len(w))
    found = lost(w, back, knobs.bits, size, knobs.symmetric, dtype)
    if found is not None:
        return found
    scaled = w / back[:, None]
    return (scaled - nearest(scaled, torch.ones(len(w)), knobs, False, dtype).values(dtype)).mul_(back[:, None])


def exponent(w: Weight, parts: Sequence[Tensor], backs: Float[Tensor, "points n"], loss: Loss, knobs: Knobs) -> int:
    """Which of ``backs``, 1/s for each exponent, loses least over all ``parts`` of the rows, ranges not clipped."""

    def losses(index: Tensor) -> Tensor:
        wide = rows(w, index).float().T.contiguous()
        return torch.stack([loss(off(wide, back, knobs, w.dtype)).sum() for back in backs])

    return int(torch.stack(each(losses, parts)).sum(0).argmin())


def clipped(
    wide: Float[Tensor, "n rows"], back: Float[Tensor, " n"], given: Input, knobs: Knobs, dtype: torch.dtype
) -> tuple[Rounded, Float[Tensor, " rows"]]:
    """W^T with its inputs scaled by 1 / ``back``, rounded; ranges clipped in the rows that lose less so; each loss."""
    found = [nearest(wide / back[:, None], given.counts * back**2, knobs, clip, dtype)
             for clip in ((False, True) if knobs.clip else (False,))]  # fmt: skip
    losses = [given.loss(wide - made.values(dtype) * back[:, None]) for made in found]
    better = losses[-1] < losses[0]
    chosen = (torch.where(better, tight, full) for tight, full in zip(found[-1], found[0], strict=True))
    return Rounded(*chosen), torch.where(better, losses[-1], losses[0])


def fitted(w: Weight, plain: Weight, given: Input, knobs: Knobs) -> Weight:
    """``w`` on a grid behind 1/s; ``plain``, the same grid without, where that loses no more."""
    width = w.shape[1]
    backs = torch.stack([1 / scales(given.size, i / POINTS) for i in range(POINTS)]).to(w.dtype).float()
    parts = torch.split(torch.arange(w.shape[0]), max(1, NUMBERS // width))
    back = backs[exponent(w, parts, backs, given.loss, knobs)]

    def part(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = rows(w, index).float().T.contiguous()
        (codes, scale, zero), losses = clipped(wide, back, given, knobs, w.dtype)
        gained = given.loss(wide - rows(plain, index).float().T).sum() - losses.sum()
        return pack(codes.T.byte().contiguous(), knobs.bits), scale.T.to(w.dtype), zero.T.byte(), gained[None]

    packed, scale, zero, gained = map(torch.cat, zip(*each(part, parts), strict=True))
    if gained.sum() <= 0:
        return Chain([plain, Diagonal(torch.ones(width, dtype=w.dtype))])
    stored_zero = None if knobs.symmetric else zero
    quantized = Quantized(packed, scale, stored_zero, knobs.bits, span(knobs.group_size, width))
    return Chain([quantized, Diagonal(back.to(w.dtype))])
