"""Where to clip sizes that a grid of few levels must hold: by a share of them, or by what the grid tells of them.

Both take sizes |x| (n,) above 0, each with what it counts (n,), and give T, float64. Nothing above T keeps its size.

- percentile: the least T at or below which ``share`` percent of the sizes lie.
- KL: of the histogram P of sizes up to T, all above T in its last bin, and of the same histogram without these, told in
  ``LEVELS`` equal levels, Q: the T of the least sum P log(P / Q). Within a level Q is spread over the bins in which any
  size lies. Szymon Migacz 2017, "8-bit Inference with TensorRT" (GTC), with MXNet's floor under Q.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor

BINS, LEVELS, STEP = 4096, 128, 16
"""Bins of the histogram, levels of the grid, and bins between two thresholds that are tried."""
FLOOR = 1e-9
"""The least share of a bin of Q in which P has something."""


def percentile(sizes: Float[Tensor, " n"], counts: Float[Tensor, " n"], share: float) -> float:
    """T of the share, in percent."""
    order = sizes.argsort(stable=True)
    below = counts.double()[order].cumsum(0)
    at = int(torch.searchsorted(below, below[-1] * share / 100))
    return float(sizes.double()[order][min(at, len(sizes) - 1)])


def kl(sizes: Float[Tensor, " n"], counts: Float[Tensor, " n"]) -> float:
    """T of the least divergence; of equal ones the lowest."""
    top = float(sizes.double().max())
    index = (sizes.double() / top * BINS).long().clamp(max=BINS - 1)
    bins = torch.bincount(index, counts.double(), minlength=BINS)
    found = [(divergence(bins, kept), kept) for kept in range(LEVELS, BINS + 1, STEP)]
    return min(found)[1] * top / BINS


def divergence(bins: Float[Tensor, " bins"], kept: int) -> float:
    """KL(P || Q) where the first ``kept`` bins keep their size. Both are shares of 1."""
    p = bins[:kept].clone()
    level = torch.arange(kept) * LEVELS // kept
    q = spread(p, level)
    p[-1] += bins[kept:].sum()
    p, q = p / p.sum(), (q / q.sum()).nan_to_num(0).clamp(min=FLOOR)
    there = p > 0
    return float((p[there] * (p[there] / q[there]).log()).sum())


def spread(p: Float[Tensor, " kept"], level: Integer[Tensor, " kept"]) -> Float[Tensor, " kept"]:
    """Each level's sum, in equal parts over those of its bins that hold any."""
    total, holding = torch.bincount(level, p), torch.bincount(level, (p > 0).to(p.dtype))
    return torch.where(p > 0, (total / holding)[level], 0.0)
