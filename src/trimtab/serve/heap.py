"""What was freed goes back to the system when there is nothing to do.

glibc keeps it for later: after the largest request that ever came a server would hold for good what that took, and its
resident memory would rise for as long as larger ones come.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

from trimtab.core.heap import give_back

EVERY = 5.0
"""Seconds from the first use to the next time, which takes some milliseconds: a request's end is behind its answer."""

SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}
"""Of the environment, before torch is there: products by shape that oneDNN remembers (1,024 of each kind if nothing is
said). Every length of a prompt is another one, so they fill for hours."""


class Heap:
    """``trim``: what gives memory back."""

    def __init__(self, trim: Callable[[], object] = give_back) -> None:
        self.trim = trim
        self._since: float | None = None

    @property
    def due(self) -> float | None:
        """Seconds until ``tidy`` would do something; None where nothing was done since."""
        return None if self._since is None else max(0.0, self._since + EVERY - time.monotonic())

    def use(self) -> None:
        """Something may have been freed."""
        if self._since is None:
            self._since = time.monotonic()

    def tidy(self) -> None:
        """Where it is due."""
        if self.due == 0.0:
            self._since = None
            gc.collect()
            self.trim()


def few_shapes() -> None:
    """``SHAPES``, where the user's environment says nothing else."""
    for name, value in SHAPES.items():
        os.environ.setdefault(name, value)


def settled() -> None:
    """What is here now, a model and libraries of some 400,000 objects, stays and need not be looked at again: else the
    collector waits until a quarter as many new ones are there, and with them the tensors that a few circles hold."""
    gc.collect()
    gc.freeze()
