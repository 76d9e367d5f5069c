"""What was made once, by its content, in so many bytes: what was asked for longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from threading import Lock
from typing import Generic, TypeVar

import torch
from torch import Tensor

V = TypeVar("V")
DIGEST = 16
"""Bytes of a digest: two contents share one by chance in 2^64 trials."""


class Bounded(Generic[V]):
    """``most``: bytes of all values together, as they are told with them. A value of more than ``most`` is not kept."""

    def __init__(self, most: int) -> None:
        self.most, self.nbytes, self.hits, self.misses = most, 0, 0, 0
        self._kept: OrderedDict[bytes, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: bytes) -> V | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: bytes, value: V, nbytes: int) -> None:
        with self._lock:
            self._drop(key)
            if nbytes > self.most:
                return
            while self.nbytes + nbytes > self.most:
                self.nbytes -= self._kept.popitem(last=False)[1][1]
            self._kept[key] = value, nbytes
            self.nbytes += nbytes

    def drop(self, key: bytes) -> None:
        """Nothing where there is none."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        self.nbytes -= self._kept.pop(key, (None, 0))[1]

    def items(self) -> Iterator[tuple[bytes, V]]:
        """As they are now, what was asked for last first."""
        with self._lock:
            now = [(key, value) for key, (value, _) in reversed(self._kept.items())]
        return iter(now)

    def __len__(self) -> int:
        return len(self._kept)


def digest(*values: Tensor) -> bytes:
    """Of the contents in their order, kinds and shapes included."""
    made = blake2b(digest_size=DIGEST)
    for value in values:
        made.update(f"{value.dtype} {tuple(value.shape)};".encode())
        made.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return made.digest()
