"""Whether a library's module is what it is taken for: by its answers on random rows, not by its name."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab.core.linear import Linear

PROBES = 16
"""Rows on which a module is asked."""
EQUAL = 0.99
"""Share of numbers that must be equal to the bit; the others may be a rounding apart."""


def probes(width: int, dtype: torch.dtype) -> Tensor:
    """The rows: always the same ones."""
    chance = torch.Generator().manual_seed(0)
    return (torch.randn(PROBES, width, generator=chance) + 0.5).to(dtype)


def same(mine: Tensor, asked: Tensor) -> bool:
    """Whether two answers are, as far as their dtype tells."""
    if mine.shape != asked.shape or mine.dtype != asked.dtype:
        return False
    if mine.dtype == torch.float32:
        return torch.allclose(mine, asked, rtol=1e-5, atol=1e-6)
    near = torch.allclose(mine.float(), asked.float(), rtol=2**-6, atol=1e-6)
    return near and float((mine == asked).float().mean()) >= EQUAL


class Stand(nn.Module):
    """As wide on both sides as a linear, and other for each: every number it gives is one of those it is given, times
    a factor."""

    def __init__(self, linear: Linear, shift: int) -> None:
        super().__init__()
        self.index = (7 * torch.arange(linear.out_features) + shift) % linear.in_features
        self.factor = 1.0 + 0.5 * shift

    def forward(self, x: Float[Tensor, "*b in"]) -> Float[Tensor, "*b out"]:
        return x[..., self.index] * self.factor
