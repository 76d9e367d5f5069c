"""Functions of the MKL inside torch's own library that torch does not offer on a CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch.backends import mkl


@cache
def function(name: str) -> Callable[..., None] | None:
    """The function of that name in C's or Fortran's convention, no types set; None where torch has another library."""
    if not mkl.is_available():
        return None
    try:
        found: Callable[..., None] = getattr(
            ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")), name
        )
    except (OSError, AttributeError):
        return None
    return found
