"""Keys and values of prompts' beginnings by their content: what was read before is not read again.

The content of a row is its vector as it enters the first layer, and its position; so whatever made the rows (words, a
tower, a token policy), a beginning is the same where its rows are. What follows is computed in other calls than if the
whole prompt had been read: the same to rounding, not to the bit.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.core.bounded import DIGEST, Bounded, digest
from trimtab.runtime.plan.entries import ROOM, Entries

LEAST = 16
"""Rows that are worth a copy."""


def contents(x: Float[Tensor, "rows width"], positions: Integer[Tensor, " rows"]) -> bytes:
    """A digest of each row, one behind the other."""
    rows = x.detach().contiguous().view(torch.uint8).numpy()
    return b"".join(digest(row.tobytes(), at.to_bytes(8, "little"))
                    for row, at in zip(rows, positions.tolist(), strict=True))  # fmt: skip


def common(one: bytes, other: bytes) -> int:
    """Of how many rows both begin."""
    count = min(len(one), len(other)) // DIGEST
    same = np.frombuffer(one, f"V{DIGEST}", count) == np.frombuffer(other, f"V{DIGEST}", count)
    return count if same.all() else int(same.argmin())


class Prefixes:
    """Beginnings that an engine has read, ``most`` bytes of them. They belong to its weights."""

    def __init__(self, most: int) -> None:
        self.kept: Bounded[list[Entries]] = Bounded(most)

    def longest(self, rows: bytes, most: int) -> list[Entries]:
        """Copies of what every layer has of the longest beginning of ``rows`` that was read before, of at most
        ``most`` rows; empty where there is none worth it."""
        found = max(((common(rows, key), key) for key, _ in self.kept.items()), default=(0, b""))
        count, entries = min(found[0], most), None
        if count >= LEAST:
            entries = self.kept.get(found[1])
        return [] if entries is None else [one.beginning(count, len(rows) // DIGEST - count + ROOM) for one in entries]

    def put(self, rows: bytes, entries: list[Entries]) -> None:
        """Keep copies of ``entries``, which are those of ``rows``, in place of what is a beginning of it; nothing where
        it is a beginning itself."""
        count = len(rows) // DIGEST
        if count < LEAST or any(common(rows, key) == count for key, _ in self.kept.items()):
            return
        for key, _ in self.kept.items():
            if rows.startswith(key):
                self.kept.drop(key)
        made = [one.beginning(count) for one in entries]
        self.kept.put(rows, made, sum(one.nbytes for one in made) + len(rows))
