"""Keys and values of prompts' beginnings by their content: what was read before is not read again.

The content of a row is its vector as it enters the first layer, and its position; so whatever made the rows (words, a
tower, a token policy), a beginning is the same where its rows are, number for number. What follows is computed in other
calls than if the whole prompt had been read: the same to rounding, not to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.core.bounded import Bounded
from trimtab.runtime.plan.entries import ROOM, Entries

LEAST = 16
"""Rows that are worth a copy."""


@dataclass(frozen=True)
class Content:
    """Rows as they enter the first layer, and where they stand."""

    x: Float[Tensor, "rows width"]
    positions: Integer[Tensor, " rows"]

    def __len__(self) -> int:
        return len(self.positions)

    def common(self, other: Content) -> int:
        """Of how many rows both begin; NaN is like nothing."""
        short = min(len(self), len(other))
        same = (self.x[:short] == other.x[:short]).all(1) & (self.positions[:short] == other.positions[:short])
        return short if bool(same.all()) else int(same.int().argmin())

    def copy(self) -> Content:
        return Content(self.x.clone(), self.positions.clone())


@dataclass(frozen=True)
class _Read:
    content: Content
    entries: list[Entries]


class Prefixes:
    """Beginnings that an engine has read, ``most`` bytes of them. They belong to its weights."""

    def __init__(self, most: int) -> None:
        self.kept: Bounded[_Read] = Bounded(most)
        self._numbers = count()

    def longest(self, content: Content, most: int) -> list[Entries]:
        """Copies of what every layer has of the longest beginning of ``content`` that was read before, of at most
        ``most`` rows; empty where there is none worth it."""
        found = max(((content.common(one.content), key) for key, one in self.kept.items()), default=(0, b""))
        rows, read = min(found[0], most), None
        if rows >= LEAST:
            read = self.kept.get(found[1])
        return [] if read is None else [one.beginning(rows, len(content) - rows + ROOM) for one in read.entries]

    def put(self, content: Content, entries: list[Entries]) -> None:
        """Keep copies of ``entries``, which are those of ``content``, in place of what is a beginning of it; nothing
        where it is a beginning itself."""
        rows, each = len(content), [(key, one.content) for key, one in self.kept.items()]
        shared = [(key, len(other), content.common(other)) for key, other in each]
        if rows < LEAST or any(same == rows for _, _, same in shared):
            return
        for key, whole, same in shared:
            if same == whole:
                self.kept.drop(key)
        made = _Read(content.copy(), [one.beginning(rows) for one in entries])
        size = sum(one.nbytes for one in made.entries) + made.content.x.nbytes + made.content.positions.nbytes
        self.kept.put(next(self._numbers).to_bytes(8, "little"), made, size)
