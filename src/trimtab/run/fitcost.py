"""Seconds that a layer-wise method takes for matrices of any shape, from two small random ones that it is timed on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

from trimtab.core.fit import Site
from trimtab.core.reservoir import Reservoir
from trimtab.core.stats import TEXT, Gram
from trimtab.core.weight import Dense

SMALL, LARGER, LARGE = 256, 512, 1024
QUICK = 0.06
"""Seconds of a small trial below which the other one is of a large matrix."""
ROWS = 1024
"""Rows that the statistics of a trial are gathered from."""


class FitCost(NamedTuple):
    """Seconds of a matrix (out, in): ``fixed`` + ``entries`` out in + ``columns`` out in^2."""

    fixed: float
    entries: float
    columns: float

    def of(self, shapes: Iterable[tuple[int, int]]) -> float:
        """Of all matrices of ``shapes``."""
        return sum(self.fixed + out * width * (self.entries + width * self.columns) for out, width in shapes)


def fit_cost(method: Any) -> FitCost | None:
    """Timed now, under a second or two; None for a method that needs gradients, or whose knobs do not fit so small a
    matrix."""
    if method.CARD.needs == "gradients" or method.CARD.wants_source:
        return None
    try:
        method.check(SMALL, SMALL)
    except ValueError:
        return None
    first = min(_once(method, SMALL) for _ in range(3))
    size = LARGE if first < QUICK else LARGER
    return solve((SMALL, size), (first, min(_once(method, size) for _ in range(2))))


def solve(sizes: Sequence[int], seconds: Sequence[float]) -> FitCost:
    """The two of the three terms, neither negative, that give both times of square matrices: ``fixed`` and ``entries``
    where they grow no faster than a matrix's entries, else ``entries`` and ``columns``."""
    (n, m), (first, second) = sizes, seconds
    if second / m**2 <= first / n**2:
        entries = max(second - first, 0.0) / (m**2 - n**2)
        return FitCost(second - entries * m**2, entries, 0.0)
    columns = min((second / m**2 - first / n**2) / (m - n), second / m**3)
    return FitCost(0.0, max(second / m**2 - columns * m, 0.0), columns)


def _once(method: Any, size: int) -> float:
    generator = torch.Generator().manual_seed(0)
    w = Dense(torch.randn(size, size, generator=generator).bfloat16())
    x = torch.randn(ROWS, size, generator=generator).bfloat16()
    card = method.CARD
    gram = None
    if card.needs != "nothing":
        gram = Gram(size, None, Reservoir(size) if card.wants_rows else None)
        gram.add(x, torch.full((ROWS,), TEXT))
    site = Site("trial", lambda: w.value.detach(), gram, ("trial",), peers=(w,))
    begun = time.perf_counter()
    with torch.no_grad():
        method(w, site)
    return time.perf_counter() - begun
