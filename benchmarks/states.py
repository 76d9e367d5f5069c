"""A shared machine is now one machine and now another: what ``trimtab doctor`` says of each, and which it is now.

Memory of the virtual machines that this was written on gave 40 or 85 GB/s, and changed from one to the other twice in a
minute. What is measured is therefore taken within one state, which reading memory before and behind it tells, and held
against the ceilings of that state. They are ``trimtab doctor``'s, and none of what is scored is in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from trimtab.measure.ceilings import Ceilings
from trimtab.measure.limits import STEADY
from trimtab.measure.probes import read_at, typical
from trimtab.run.limits import examined

SIZE = 1 << 28  # bytes, more than any cache
TRIES = 12
T = TypeVar("T")


class States:
    """``known``: ceilings of the states that were met so far."""

    def __init__(self) -> None:
        self.known: list[Ceilings] = []

    def within(self, measure: Callable[[], T]) -> tuple[Ceilings, T]:
        """What ``measure`` gives, taken again until memory reads alike before and behind it, and the ceilings of that
        state; after ``TRIES`` what there is counts, and that is said."""
        for last in range(TRIES, 0, -1):
            before = now()
            found = measure()
            behind = now()
            steady = alike(before, behind)
            if steady or last == 1:
                ceilings = self.of(behind)
                if ceilings is not None:
                    said = "" if steady else ", UNSTEADY"
                    print(f"memory {before / 1e9:.0f} GB/s, behind {behind / 1e9:.0f}{said}", flush=True)
                    return ceilings, found
        raise SystemExit("this machine is never the same for as long as looking at it takes")

    def of(self, rate: float) -> Ceilings | None:
        """The nearest state, looked for as often as it takes to meet it; None where it is another one meanwhile."""
        near = min(self.known, key=lambda one: abs(one.reading.at(SIZE) / rate - 1), default=None)
        if near is not None and alike(near.reading.at(SIZE), rate):
            return near
        self.known.append(examined())
        return self.known[-1] if alike(self.known[-1].reading.at(SIZE), rate) else None


def now() -> float:
    """Bytes of memory read a second at this moment."""
    return read_at(torch.ones(SIZE // 4), 0.1, typical)


def alike(one: float, other: float) -> bool:
    return 1 / STEADY <= one / other <= STEADY
