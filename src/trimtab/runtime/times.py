"""How long a product takes on a grid here: of random numbers, since its speed does not depend on the values."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from trimtab.core.linear import Linear
from trimtab.core.weight import Quantized
from trimtab.measure.latency import reading, repeats_of
from trimtab.runtime.lower import lower

REPEATS = 15


class Grid(NamedTuple):
    """What a product's time depends on: the matrix's shape, its codes, and whether its model holds dense copies."""

    out: int
    width: int
    bits: int
    group_size: int
    symmetric: bool
    dtype: torch.dtype
    held: bool = False


def random_weight(grid: Grid) -> Quantized:
    """Codes, scales and zeros without meaning."""
    count = grid.width // grid.group_size
    codes = torch.randint(0, 2**grid.bits, (grid.out, grid.width), dtype=torch.uint8)
    zero = None if grid.symmetric else torch.randint(0, 2**grid.bits, (grid.out, count), dtype=torch.uint8)
    return Quantized.of(codes, torch.rand(grid.out, count).to(grid.dtype) / 100, zero, grid.bits)


def seconds(grid: Grid, rows: int) -> float:
    """The median time of ``REPEATS`` products of ``rows`` rows, by what the runtime puts in a model's place."""
    host = Linear(random_weight(grid), None, "trial")
    lower(nn.Sequential(host), hold=grid.out * grid.width * 8 if grid.held else 0, compiled=not grid.held)
    x = torch.randn(rows, grid.width, dtype=grid.dtype)
    with torch.inference_mode():
        return reading("product", repeats_of(lambda: host(x), REPEATS)).value
