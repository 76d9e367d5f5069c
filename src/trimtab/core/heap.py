"""How the C library keeps memory, where it is glibc; nothing is done elsewhere, where these calls do not exist."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

M_ARENA_MAX = -8


def give_back() -> None:
    """Return what was freed in the middle of the heap. glibc returns only its end by itself, and a small tensor that
    stays keeps every block of work before it: over a walk that came to as much as the model."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def few_arenas(threads: int) -> None:
    """One place for each of ``threads``, at least 2 and at most 8, from which memory is taken, from now on and for the
    whole process. glibc has up to eight for each core, and what is free in one serves no thread that uses another (over
    a walk of two lanes it came to 0.1 GB)."""
    option = _glibc("mallopt")
    if option is not None:
        option(M_ARENA_MAX, min(8, max(2, threads)))


def _glibc(name: str) -> Callable[..., object] | None:
    found = ctypes.CDLL(None) if sys.platform == "linux" else None
    return getattr(found, name, None) if hasattr(found, "gnu_get_libc_version") else None
