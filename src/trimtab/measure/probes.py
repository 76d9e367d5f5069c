"""What this machine can do, measured in under a second each: reading memory, multiplying matrices."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import psutil
import torch
from torch import Tensor

from trimtab.core.native import read_all

BUDGET = 0.6  # seconds a probe may take, its setting up included
SIZES = (1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28, 1 << 30)  # bytes


def best(fn: Callable[[], object], seconds: float) -> float:
    """The shortest of as many calls as fit into ``seconds``, at least two after one that warms up."""
    return min(_calls(fn, seconds, 2))


def typical(fn: Callable[[], object], seconds: float) -> float:
    """The median of as many calls as fit into ``seconds``, at least three after one that warms up."""
    return median(_calls(fn, seconds, 3))


def _calls(fn: Callable[[], object], seconds: float, least: int) -> list[float]:
    fn()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < end:
        begin = time.perf_counter()
        fn()
        found.append(time.perf_counter() - begin)
    return found


def read_bandwidth(of: Callable[[Callable[[], object], float], float] = best) -> dict[int, float]:
    """Bytes a second when all threads read arrays of so many bytes, by size: caches first, memory last; the best of
    some reads, or what else ``of`` makes of them.

    Sizes above an eighth of the free memory are left out; the curve takes about a second in all.
    """
    free = psutil.virtual_memory().available
    found = {}
    for size in SIZES:
        if size <= free // 8:
            found[size] = read_at(torch.ones(size // 4), 0.05, of)
            if size / found[size] > BUDGET / 4:  # the next would take too long
                break
    return found


def read_at(values: Tensor, seconds: float, of: Callable[[Callable[[], object], float], float] = best) -> float:
    """Bytes of ``values`` read a second, the best (``of``) of as many times as fit into ``seconds``."""
    return values.nbytes / of(lambda: read_all(values), seconds)


def arithmetic() -> dict[str, float]:
    """The most operations a second (2 n^3 for an n-cube) in float32, bfloat16 and int8; larger cubes while time is."""
    return {"float32": _peak(torch.float32), "bfloat16": _peak(torch.bfloat16), "int8": _peak(torch.int8)}


def _peak(dtype: torch.dtype) -> float:
    most, begin = 0.0, time.perf_counter()
    for n in (256, 512, 1024, 2048):
        x = torch.ones(n, n, dtype=dtype)
        product = (lambda a: torch._int_mm(a, a)) if dtype == torch.int8 else (lambda a: a @ a)
        once = best(lambda: product(x), 0.05)  # noqa: B023
        most = max(most, 2 * n**3 / once)
        if time.perf_counter() - begin + 8 * 4 * once > BUDGET:
            break
    return most
