"""Calibration of one layer, for the tests of layer-wise methods."""

from __future__ import annotations

import torch
from torch import Tensor

from trimtab.core.stats import Gram


def gram_of(x: Tensor) -> Gram:
    """All rows are words."""
    gram = Gram(x.shape[1])
    gram.add(x, torch.zeros(len(x), dtype=torch.int64))
    return gram


def inputs(tokens: int, width: int) -> Tensor:
    """Correlated rows."""
    return torch.randn(tokens, width) @ (torch.randn(width, width) / width**0.5 + 0.3 * torch.eye(width))
