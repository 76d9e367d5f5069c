"""In which precision this CPU computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

BFLOAT16 = ("amx_bf16", "avx512_bf16")
"""Features of a CPU that multiplies bfloat16 numbers itself; elsewhere they are widened one by one."""


def dtype_of(capabilities: Mapping[str, Any]) -> torch.dtype:
    """bfloat16 where the CPU has AMX or AVX512-BF16, else float32; ``capabilities`` by torch's names."""
    return torch.bfloat16 if any(capabilities.get(name) for name in BFLOAT16) else torch.float32


def compute_dtype() -> torch.dtype:
    """What this CPU computes in; runs record it."""
    return dtype_of(torch.cpu.get_capabilities())
