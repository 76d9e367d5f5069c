"""Whether a library's module is what it is taken for: by its answers on random rows, not by its name."""

from __future__ import annotations

import torch
from torch import Tensor

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
