"""The KV cache of a plan: of each sequence and layer, keys and values in bfloat16 with their positions, in arrays that
grow by half of themselves."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor

from trimtab.anatomy.slots import Slots
from trimtab.core.slot import Slot
from trimtab.runtime.plan import structs

ROOM = 128
"""Entries of which there is room beside those that are there."""
WHOLE = 32
"""Room is a multiple of this: prompts read so many entries at once."""


class Entries:
    """Of one sequence in one layer. ``bias``: log of how many tokens each entry stands for, None for one each."""

    def __init__(self, key: Tensor, value: Tensor, position: Tensor, bias: Tensor | None, count: int) -> None:
        self.key, self.value, self.position, self.bias, self.count = key, value, position, bias, count

    @classmethod
    def empty(cls, shared: int, size: int) -> Entries:
        key, value = (torch.empty(shared, ROOM, size, dtype=torch.bfloat16) for _ in range(2))
        return cls(key, value, torch.empty(ROOM, dtype=torch.int32), None, 0)

    @classmethod
    def of(cls, slot: Slot, row: int) -> Entries:
        """A row of what the loop has stored, without its padding."""
        valid = slot.valid[row]
        k, v = (one.detach()[row][:, valid] for one in slot.read())
        count = k.shape[1]
        made = cls.empty(k.shape[0], k.shape[2])
        made.reserve(count)
        made.key[:, :count], made.value[:, :count] = k, v
        made.position[:count] = slot.positions[row][valid]
        if slot.size is not None:
            made.bias = torch.zeros(made.position.shape, dtype=torch.float32)
            made.bias[:count] = slot.size[row][valid].log()
        made.count = count
        return made

    def reserve(self, more: int) -> None:
        """Room for ``more`` entries beside those that are there."""
        room = self.position.shape[0]
        if self.count + more <= room:
            return
        self.room(-(-max(self.count + more + ROOM, room + room // 2) // WHOLE) * WHOLE)

    def room(self, wanted: int) -> None:
        """Room for ``wanted`` entries, no fewer than before."""
        for name, axis in (("key", 1), ("value", 1), ("position", 0), ("bias", 0)):
            old = getattr(self, name)
            if old is not None:
                fresh = old.new_zeros(*old.shape[:axis], wanted, *old.shape[axis + 1 :])
                fresh.narrow(axis, 0, old.shape[axis]).copy_(old)
                setattr(self, name, fresh)

    def beginning(self, count: int, more: int = 0) -> Entries:
        """A copy of the first ``count``, with room for ``more``."""
        bias = None if self.bias is None else self.bias[:0]
        made = Entries(self.key[:, :0], self.value[:, :0], self.position[:0], bias, 0)
        made.room(-(-(count + more) // WHOLE) * WHOLE)
        made.key[:, :count], made.value[:, :count] = self.key[:, :count], self.value[:, :count]
        made.position[:count], made.count = self.position[:count], count
        if self.bias is not None and made.bias is not None:
            made.bias[:count] = self.bias[:count]
        return made

    def fill(self, struct: structs.Slots) -> None:
        struct.key, struct.value = self.key.data_ptr(), self.value.data_ptr()
        struct.position, struct.bias = self.position.data_ptr(), None if self.bias is None else self.bias.data_ptr()
        struct.count, struct.room = self.count, self.position.shape[0]

    @property
    def nbytes(self) -> int:
        """With the room that is not used yet."""
        return sum(t.nbytes for t in (self.key, self.value, self.position, self.bias) if t is not None)

    @property
    def stored(self) -> int:
        """Bytes of the keys and values that are there."""
        return (self.key.nbytes + self.value.nbytes) // self.position.shape[0] * self.count


class Cache:
    """``layers`` of every sequence, and the structures that the library is given."""

    def __init__(self, sequences: list[list[Entries]]) -> None:
        self.sequences = sequences
        self.array: Any = (structs.Slots * sum(map(len, sequences)))()

    @classmethod
    def of(cls, slots: Slots, rows: int) -> Cache:
        """What the loop has stored for a batch of ``rows``."""
        layers = [slots.layers[index] for index in sorted(slots.layers)]
        return cls([[Entries.of(slot, row) for slot in layers] for row in range(rows)])

    def given(self, sequences: Integer[Tensor, " rows"], layers: range) -> Any:
        """The structures, with room in ``layers`` for an entry of each row, whose sequence is told."""
        more = torch.bincount(sequences.long(), minlength=len(self.sequences)).tolist()
        for each, rows in zip(self.sequences, more, strict=True):
            for index in layers if rows else ():
                each[index].reserve(rows)
        flat = (entries for each in self.sequences for entries in each)
        for entries, struct in zip(flat, self.array, strict=True):
            entries.fill(struct)
        return self.array

    def taken(self) -> None:
        """Counts as the library has left them."""
        flat = (entries for layers in self.sequences for entries in layers)
        for entries, struct in zip(flat, self.array, strict=True):
            entries.count = struct.count

    @property
    def stored(self) -> int:
        """Bytes of the keys and values that are there."""
        return sum(entries.stored for layers in self.sequences for entries in layers)


def movable(slots: Slots) -> bool:
    """Whether a plan can go on with what the loop has stored: no policy acts between tokens, every key head holds the
    same entries, and none is stored in another form."""
    acting = any(policy.at.when != "prefill" for policy in slots.policies)
    return not acting and all(slot.valid.ndim == 2 and slot.older is None for slot in slots.layers.values())
