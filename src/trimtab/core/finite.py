"""Whether a large tensor holds nothing but numbers, in one pass and without a copy of it."""

from __future__ import annotations

import torch
from torch import Tensor


def finite(t: Tensor) -> bool:
    """No NaN and nothing infinite: both show in the least or the largest number."""
    return not t.numel() or bool(torch.stack(torch.aminmax(t)).isfinite().all())
