"""Coordinate descent on tr(D H D^T), D = W - Q - S: Q on a grid, S with few entries. Pure functions on W^T (n, rows).

Every function leaves what it minimizes no larger than it was, but for the rounding of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.quantize.grid import decode, encode

BLOCK = 128
"""Columns between two products with the whole of H: within a block only the block's own moves are made up for."""


@dataclass(frozen=True)
class Grid:
    """Codes on a fixed grid and what they stand for: ``codes`` (n, rows) as floats and ``values`` (n, rows) are written
    to, ``scale`` and ``zero`` (groups, rows) stay. ``values`` are rounded to ``dtype`` as the stored weight's are."""

    codes: Tensor
    values: Tensor
    scale: Tensor
    zero: Tensor
    bits: int
    dtype: torch.dtype

    @classmethod
    def of(
        cls,
        codes: Float[Tensor, "n rows"],
        scale: Float[Tensor, "groups rows"],
        zero: Float[Tensor, "groups rows"],
        bits: int,
        dtype: torch.dtype,
    ) -> Grid:
        """From the codes."""
        grouped = codes.unflatten(0, (len(scale), -1))
        values = decode(grouped, scale[:, None], zero[:, None], dtype).flatten(0, 1)
        return cls(codes, values, scale, zero, bits, dtype)

    def nearest(self, column: int, target: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """Put a column at the points nearest to ``target``, where these are nearer than it is; by how much it moved."""
        group = column * len(self.scale) // len(self.codes)
        scale, zero, before = self.scale[group], self.zero[group], self.values[column]
        code = encode(target, scale, zero, self.bits)
        value = decode(code, scale, zero, self.dtype)
        better = (value - target).abs() < (before - target).abs()
        moved = torch.where(better, value - before, 0.0)
        self.codes[column] = torch.where(better, code, self.codes[column])
        self.values[column] = torch.where(better, value, before)
        return moved


def sweep(d: Float[Tensor, "n rows"], grid: Grid, h: Float[Tensor, "n n"], live: list[bool]) -> bool:
    """Every column of Q in order to its best, the others as they are; ``d`` = (W - Q - S)^T follows. Whether one moved.

    The best of column j alone is the grid's point nearest to Q_j + (D H)_j / H_jj, which is what the paper writes as
    ((W H)_j - sum over k other than j of Q_k H_kj) / H_jj. Columns that are not ``live`` (H_jj = 0) cost nothing and
    stay.
    """
    n, any_moved = len(d), False
    for a in range(0, n, BLOCK):
        b = min(a + BLOCK, n)
        lean, moves = h[a:b] @ d, torch.zeros_like(d[a:b])
        for i in range(a, b):
            if live[i]:
                ahead = torch.addmv(lean[i - a], moves[: i - a].T, h[a:i, i], alpha=-1)
                moves[i - a] = grid.nearest(i, grid.values[i] + ahead / h[i, i])
        any_moved = any_moved or bool(moves.any())
        d[a:b] -= moves
    return any_moved


class Few(NamedTuple):
    """Entries of S: ``at`` their places in the matrix row by row, ascending, ``values`` in the dtype that is stored."""

    at: Tensor
    values: Tensor

    def spread(self, like: Float[Tensor, "n rows"]) -> Float[Tensor, "n rows"]:
        """S^T, 0 elsewhere."""
        n, rows = like.shape
        return like.new_zeros(rows * n).index_put((self.at,), self.values.float()).view(rows, n).T


def largest(w: Float[Tensor, "n rows"], count: int, dtype: torch.dtype) -> Few:
    """The ``count`` entries of greatest size."""
    flat = w.T.flatten()
    at = flat.abs().topk(count).indices.sort().values
    return Few(at, flat[at].to(dtype))


def threshold(
    d: Float[Tensor, "n rows"], few: Few, h: Float[Tensor, "n n"], rate: float
) -> tuple[Float[Tensor, "n rows"], Few]:
    """One step of iterative hard thresholding: of S + rate (D H) the largest entries, as many as S has; D and S after.

    With ``rate`` at most 1 / (the largest eigenvalue of H) the loss cannot grow, but values are stored in fewer bits,
    and that rounding can cost more than the step gains: then both stay as they are.
    """
    s, lean = few.spread(d), h @ d
    new = largest(s + rate * lean, len(few.at), few.values.dtype)
    after = d + s - new.spread(d)
    if float(((h @ after) * after).sum()) > float((lean * d).sum()):
        return d, few
    return after, new


def step_rate(h: Float[Tensor, "n n"], rounds: int = 50) -> float:
    """1 / (the largest eigenvalue of H), by power iteration from the sum of its columns, less 2 % for what it lacks."""
    v, top = h.sum(1) + 1e-3, torch.tensor(0.0)
    for _ in range(rounds):
        v = h @ (v / v.norm())
        top = v.norm()
    return 0.98 / float(top) if top > 0 else 0.0
