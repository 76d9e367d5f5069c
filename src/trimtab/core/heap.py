"""Freed memory back to the system, where the C library keeps it."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return what was freed in the middle of the heap. glibc returns only its end by itself, and a small tensor that
    stays keeps every block of work before it: over a walk that came to as much as the model. Elsewhere nothing is done:
    other C libraries do not have the call."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
