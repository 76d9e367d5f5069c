"""The KV cache of our loop: keys and values with the position and validity of each entry.

The library's attention layers know it as ``past_key_values`` and call ``update``; the loop calls ``extend`` before the
layer and ``settle`` after it, when cache policies decide what stays. Layers may hold different tokens: those behind a
token policy hold only what it kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.anatomy.recent import Recent
from trimtab.core.evict import CachePolicy
from trimtab.core.keep import Sight
from trimtab.core.slot import Slot


class Slots:
    """``layers`` by index; ``length`` how many tokens of the sequence went by, dropped ones included; ``following``
    (b,) the position of each row's next token; ``shift`` (b,), where rotary angles follow a grid, by how much a later
    word's place on it is past its position; ``policies``: who decides what is stored, in the order of acting."""

    is_compileable = False
    is_croppable = False

    def __init__(self) -> None:
        self.layers: dict[int, Slot] = {}
        self.length = 0
        self.following: Tensor | None = None
        self.shift: Tensor | None = None
        self.policies: Sequence[CachePolicy] = ()
        self._recent = Recent(16)

    def extend(
        self,
        layer: int,
        positions: Integer[Tensor, "b t"],
        valid: Bool[Tensor, "b t"],
        window: int | None = None,
        size: Float[Tensor, "b t"] | None = None,
    ) -> tuple[Integer[Tensor, "b *g s"], Bool[Tensor, "b *g s"]]:
        """Announce the tokens whose keys and values ``update`` will bring, with how many each stands for where some
        were merged; (positions, valid) of all entries then."""
        slot = self.layers.get(layer)
        if slot is None:
            slot = self.layers[layer] = Slot(positions, valid, size=size)
        else:
            if window is not None:
                self._forget(slot, window)
            if slot.size is not None or size is not None:
                slot.size = self._recent(_sizes, slot.size, size, slot.positions, positions)
            slot.positions = self._recent(_append, slot.positions, positions)
            slot.valid = self._recent(_append, slot.valid, valid)
        return slot.positions, slot.valid

    def update(self, k: Tensor, v: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The library's cache call: store, and return all keys and values of the layer."""
        self.layers[layer].append(k, v)
        return self.layers[layer].read()

    def settle(self, layer: int, sight: Sight | None = None) -> None:
        """Let the policies act on a layer that has run: all on the prompt, whose ``sight`` is given, later those that
        act at every step."""
        for policy in self.policies:
            once = policy.at.when == "prefill"
            if not once or sight is not None:
                policy.settle(self.layers[layer], sight if once else None, self._recent)

    def advance(self, positions: Integer[Tensor, "b t"], valid: Bool[Tensor, "b t"]) -> None:
        """Count tokens that went through all layers, at their original number and positions."""
        self.length += positions.shape[1]
        newest = positions.masked_fill(~valid, -1).amax(1) + 1
        self.following = newest if self.following is None else torch.maximum(self.following, newest)

    def _forget(self, slot: Slot, window: int) -> None:
        """Free what no later query can see, once there may be as much of it as the window holds. Entries that will be
        coded together stay until they are, so that what a group holds does not depend on the rest of the batch."""
        if slot.valid.shape[-1] < 2 * window or slot.k is None or self.following is None:
            return
        grouping = any(policy.act == "requantize" for policy in self.policies)
        count = slot.grouped if grouping else slot.valid.shape[-1]
        alive = self._recent(_near, slot.positions, slot.valid, self.following, window, count)
        if not self._recent(torch.equal, alive, slot.valid):
            slot.keep(alive, self._recent)

    def shed(self) -> None:
        """Free the places that are padding in every row, by which the loop rounds up a shortened stream."""
        for slot in self.layers.values():
            if slot.k is not None and slot.older is None:
                slot.cut(self._recent(_leading, slot.valid), self._recent)

    def nbytes(self) -> int:
        """Bytes of all stored keys and values, in whatever form."""
        return sum(slot.nbytes for slot in self.layers.values())

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """What ``generate`` asks: the tokens that went by, which is more than are stored where some were dropped."""
        return self.length


def _append(old: Tensor, new: Tensor) -> Tensor:
    """What is announced for all key heads is so for each."""
    return torch.cat([old, new if old.ndim == 2 else new[:, None].expand(-1, old.shape[1], -1)], -1)


def _sizes(old: Tensor | None, new: Tensor | None, before: Tensor, after: Tensor) -> Tensor:
    """Sizes of entries at the positions ``before`` and ``after``, 1 where none are given."""
    first = torch.ones(before.shape, device=before.device) if old is None else old
    return _append(first, torch.ones(after.shape, device=after.device) if new is None else new)


def _near(
    positions: Integer[Tensor, "b *g s"],
    valid: Bool[Tensor, "b *g s"],
    following: Integer[Tensor, " b"],
    window: int,
    count: int,
) -> Bool[Tensor, "b *g s"]:
    """True where the next token still sees the entry, and at every valid one behind the first ``count``."""
    near = following.view(-1, *(1,) * (positions.ndim - 1)) - positions < window
    return valid & (near | (torch.arange(positions.shape[-1], device=positions.device) >= count))


def _leading(valid: Bool[Tensor, "b *g s"]) -> int:
    """How many of the first places are padding everywhere; none where all are."""
    there = valid.flatten(0, -2).any(0)
    return int(there.int().argmax())
