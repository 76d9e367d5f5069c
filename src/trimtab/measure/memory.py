"""Resident memory of this process: its peak so far, and its peak while something runs; and the bytes of a KV cache."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from trimtab.core.reading import Reading
from trimtab.measure.every import every as often


def resident() -> int:
    """Bytes in memory now."""
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """The most bytes that this process ever had in memory, as the system counts them."""
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return int(info.peak_wset)
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its getrusage also counts what the parent had at the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def available() -> int:
    """Bytes of memory that programs can still get without swapping."""
    return int(psutil.virtual_memory().available)


def stored(cache: Any) -> int:
    """Bytes of the keys and values that a cache stores now: ours says so itself, of the library's they are summed."""
    if hasattr(cache, "nbytes"):
        return int(cache.nbytes())
    return sum(int(t.nbytes) for layer in cache.layers for t in (layer.keys, layer.values))


class Watch:
    """``with Watch() as watch: ...`` then ``watch.peak``: the most bytes seen, sampled every ``every`` seconds.

    Unlike ``peak`` it forgets what was before; allocations shorter than ``every`` can be missed.
    """

    def __init__(self, every: float = 0.02) -> None:
        self.every, self.peak = every, 0
        self._watching = ExitStack()

    def __enter__(self) -> Watch:
        self.peak = resident()
        self._watching.enter_context(often(self.every, self._look))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.close()

    def _look(self) -> None:
        self.peak = max(self.peak, resident())

    def reading(self, name: str = "memory.peak") -> Reading:
        """The peak as a reading."""
        return Reading(name, float(self.peak), "bytes", how="timed")
