"""The KV cache of our loop: keys and values with the position and validity of each entry.

The library's attention layers know it as ``past_key_values`` and call ``update``; the loop calls ``extend`` before the
layer. Layers may hold different tokens: those behind a token policy hold only what it kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.anatomy.recent import Recent


@dataclass
class Slot:
    """One layer's entries, in the order in which they came."""

    positions: Integer[Tensor, "b s"]
    valid: Bool[Tensor, "b s"]
    k: Float[Tensor, "b g s d"] | None = None
    v: Float[Tensor, "b g s d"] | None = None


class Slots:
    """``layers`` by index; ``length`` how many tokens of the sequence went by, dropped ones included; ``following``
    (b,) the position of each row's next token; ``shift`` (b,), where rotary angles follow a grid, by how much a later
    word's place on it is past its position.
    """

    is_compileable = False
    is_croppable = False

    def __init__(self) -> None:
        self.layers: dict[int, Slot] = {}
        self.length = 0
        self.following: Tensor | None = None
        self.shift: Tensor | None = None
        self._recent = Recent()

    def extend(
        self, layer: int, positions: Integer[Tensor, "b t"], valid: Bool[Tensor, "b t"], window: int | None = None
    ) -> tuple[Integer[Tensor, "b s"], Bool[Tensor, "b s"]]:
        """Announce the tokens whose keys and values ``update`` will bring; (positions, valid) of all entries then."""
        slot = self.layers.get(layer)
        if slot is None:
            slot = self.layers[layer] = Slot(positions, valid)
        else:
            if window is not None:
                self._forget(slot, window)
            slot.positions = self._recent(_append, slot.positions, positions)
            slot.valid = self._recent(_append, slot.valid, valid)
        return slot.positions, slot.valid

    def update(self, k: Tensor, v: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The library's cache call: store, and return all keys and values of the layer."""
        slot = self.layers[layer]
        slot.k = k if slot.k is None else torch.cat([slot.k, k], 2)
        slot.v = v if slot.v is None else torch.cat([slot.v, v], 2)
        return slot.k, slot.v

    def advance(self, positions: Integer[Tensor, "b t"], valid: Bool[Tensor, "b t"]) -> None:
        """Count tokens that went through all layers, at their original number and positions."""
        self.length += positions.shape[1]
        newest = positions.masked_fill(~valid, -1).amax(1) + 1
        self.following = newest if self.following is None else torch.maximum(self.following, newest)

    def _forget(self, slot: Slot, window: int) -> None:
        """Drop leading entries that no later query can see, once they are as many as the window."""
        if slot.positions.shape[1] < 2 * window or slot.k is None or slot.v is None or self.following is None:
            return
        self._cut(slot, self._recent(_first_alive, slot.positions, self.following, window))

    def shed(self) -> None:
        """Free the leading places that are padding in every row, by which the loop rounds up a shortened stream."""
        for slot in self.layers.values():
            self._cut(slot, self._recent(_padding, slot.valid))

    def _cut(self, slot: Slot, start: int) -> None:
        if not start or slot.k is None or slot.v is None:
            return
        slot.positions = self._recent(_from, slot.positions, start)
        slot.valid = self._recent(_from, slot.valid, start)
        slot.k, slot.v = slot.k[:, :, start:].clone(), slot.v[:, :, start:].clone()

    def nbytes(self) -> int:
        """Bytes of all stored keys and values."""
        return sum(t.nbytes for slot in self.layers.values() for t in (slot.k, slot.v) if t is not None)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """What ``generate`` asks: the tokens that went by, which is more than are stored where some were dropped."""
        return self.length


def _append(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old, new], 1)


def _from(old: Tensor, start: int) -> Tensor:
    return old[:, start:]


def _padding(valid: Bool[Tensor, "b s"]) -> int:
    return int((~valid.any(0)).long().cumprod(0).sum())


def _first_alive(positions: Integer[Tensor, "b s"], following: Integer[Tensor, " b"], window: int) -> int:
    dead = following[:, None] - positions >= window
    return int(dead.all(0).long().cumprod(0).sum())
