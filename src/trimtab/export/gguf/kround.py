"""Our grids rounded onto k-quants: scales and least values by a search of least squares, codes anew on what it found.

With s and l = zero * s of a sub-block, codes q with mean a, and n of them, a scale that is off by e and a least value
that is off by f change the weights by e q - f, of which the square sums up to

    e**2 sum (q - a)**2  +  n (f - e a)**2

so the scales are rounded to d * sc with the weights sum (q - a)**2, then l + e a, not l, to dmin * m. For each d or
dmin its greatest multiple is tried at every number that fits, and the unit that fits the multiples best after it. What
lies on the grid comes out exact. A block whose weights are nearer under the plain choice (the greatest scale takes the
greatest number) keeps that. Codes are the nearest on the rounded grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from trimtab.core.pack import pack, unpack
from trimtab.core.weight import Quantized
from trimtab.export.gguf.kquant import WIDE, Grid, KQuant, Multiples, decoded, spread

AT_ONCE = 512
"""Rows that are rounded at once: the search holds them several times in float32."""
FAINT = 1e-3
"""Weight of a sub-block of equal codes, which its scale does not change: enough to find what lies on the grid."""
Search = Callable[[Tensor, Tensor, Grid], Multiples]


class Wanted(NamedTuple):
    """Of some rows, x = scale * q - least."""

    x: Float[Tensor, "rows blocks subs sub"]
    q: Float[Tensor, "rows blocks subs sub"]
    scale: Float[Tensor, "rows blocks subs"]
    least: Float[Tensor, "rows blocks subs"]


class Found(NamedTuple):
    """The same rows on the grid."""

    q: Int8[Tensor, "rows blocks subs sub"]
    scale: Multiples
    least: Multiples | None


def fit(w: Quantized, grid: Grid) -> KQuant:
    """``w`` on ``grid``, whose codes have as many bits. 256 divides a row, and a group is whole sub-blocks."""
    parts, square, whole = [], 0.0, 0.0
    for wanted in _parts(w, grid):
        found = _nearer(wanted.x, _round(grid, wanted, searched), _round(grid, wanted, largest))
        square += float(_squares(wanted.x, found).sum(dtype=torch.float64))
        whole += float(wanted.x.square().sum(dtype=torch.float64))
        parts.append(found)
    codes = torch.cat([pack((one.q - grid.lowest).to(torch.uint8).flatten(1), grid.bits) for one in parts])
    least = [one.least for one in parts if one.least is not None]
    return KQuant(grid, codes, _joined([one.scale for one in parts]), _joined(least) if least else None,
                  (square / (whole or 1.0)) ** 0.5)  # fmt: skip


def _joined(parts: Sequence[Multiples]) -> Multiples:
    return torch.cat([unit for unit, _ in parts]), torch.cat([times.to(torch.int8) for _, times in parts])


def _parts(w: Quantized, grid: Grid) -> Iterator[Wanted]:
    """Where a grid takes a least value off, which never is above 0, a scale below 0 is turned over with its codes."""
    rows, width = w.shape
    shape, top = (width // WIDE, WIDE // grid.sub), 2**grid.bits - 1
    for start in range(0, rows, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        scale = w.scale[part].float()
        zero = torch.full_like(scale, 2 ** (w.bits - 1)) if w.zero is None else w.zero[part].float()
        scale, zero = (one.repeat_interleave(w.group_size // grid.sub, 1).unflatten(1, shape) for one in (scale, zero))
        codes = unpack(w.codes[part], w.bits).float().unflatten(1, (*shape, grid.sub))
        level = codes - zero[..., None]
        if grid.least:
            turned = scale < 0
            codes, zero = torch.where(turned[..., None], top - codes, codes), torch.where(turned, top - zero, zero)
            yield Wanted(level * scale[..., None], codes, scale.abs(), zero * scale.abs())
        else:
            yield Wanted(level * scale[..., None], level, scale, torch.zeros_like(scale))


def _round(grid: Grid, wanted: Wanted, search: Search) -> Found:
    """Scales and least values as ``search`` says, then the nearest codes."""
    mean = wanted.q.mean(3) if grid.least else torch.zeros_like(wanted.scale)
    scale, least, x = search(wanted.scale, (wanted.q - mean[..., None]).square().sum(3) + FAINT, grid), None, wanted.x
    step = spread(scale)
    if grid.least:
        target = (wanted.least + (step - wanted.scale) * mean).clamp(min=0)
        least = search(target, torch.ones_like(target), grid)
        x = x + spread(least)[..., None]
    q = _divided(x, step[..., None]).round().clamp(grid.lowest, grid.lowest + 2**grid.bits - 1)
    return Found(q.to(torch.int8), scale, least)


def largest(target: Float[Tensor, "rows blocks subs"], _: Tensor, grid: Grid) -> Multiples:
    """The greatest of a block takes the greatest number, the others the nearest; weights are not looked at."""
    unit = (_greatest(target) / grid.high).half()
    return unit, _times(target, unit, grid)


def searched(
    target: Float[Tensor, "rows blocks subs"], weight: Float[Tensor, "rows blocks subs"], grid: Grid
) -> Multiples:
    """The float16 u and the numbers n of a block with the least sum weight (target - u n)**2: u is tried at
    greatest / k for every k that n can be, and after each at sum weight target n / sum weight n**2."""
    top = _greatest(target)
    unit, times, best = torch.zeros_like(top).half(), torch.zeros_like(target), torch.full_like(top, torch.inf)
    for number in (number for number in range(grid.low, grid.high + 1) if number):
        tried = (top / number).half()
        for _ in range(2):
            near = _times(target, tried, grid)
            error = (weight * (target - spread((tried, near))).square()).sum(2)
            better = error < best
            best, unit = torch.where(better, error, best), torch.where(better, tried, unit)
            times = torch.where(better[..., None], near, times)
            tried = _divided((weight * target * near).sum(2), (weight * near.square()).sum(2)).half()
    return unit, times


def _greatest(target: Tensor) -> Tensor:
    """Of each block, by its size, with its sign."""
    return target.gather(2, target.abs().argmax(2, keepdim=True))[..., 0]


def _times(target: Tensor, unit: Tensor, grid: Grid) -> Tensor:
    """The nearest numbers that the grid has."""
    return _divided(target, unit.float()[..., None]).round().clamp(grid.low, grid.high)


def _divided(x: Tensor, by: Tensor) -> Tensor:
    """x / by, 0 where ``by`` is."""
    return torch.where(by == 0, 0.0, x / by)


def _nearer(x: Tensor, first: Found, other: Found) -> Found:
    """Of each block the one with the smaller error of its weights."""
    better = _squares(x, first) <= _squares(x, other)

    def either(a: Multiples, b: Multiples) -> Multiples:
        return torch.where(better, a[0], b[0]), torch.where(better[..., None], a[1], b[1])

    least = None if first.least is None or other.least is None else either(first.least, other.least)
    return Found(torch.where(better[..., None, None], first.q, other.q), either(first.scale, other.scale), least)


def _squares(x: Tensor, found: Found) -> Float[Tensor, "rows blocks"]:
    """Sum of squares of what each block is off."""
    return (decoded(*found) - x).square().sum((2, 3))
