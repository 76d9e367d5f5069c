"""Caches of the loop as rows of one: joined, filled up on the left, and taken apart again.

Masks come from positions and validity, never from lengths, so padding changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from trimtab.anatomy.recent import Recent
from trimtab.anatomy.slots import Slots
from trimtab.core.slot import Slot


def joined(parts: Sequence[Slots]) -> Slots:
    """The rows of all, in their order. Of caches without policies that act on them, of one model."""
    made, once = Slots(), Recent(16)
    for index in parts[0].layers:
        made.layers[index] = _joined([one.layers[index] for one in parts], once)
    made.length = max(one.length for one in parts)
    made.following = torch.cat([one.following for one in parts if one.following is not None])
    shifts = [one.shift for one in parts if one.shift is not None]
    made.shift = torch.cat(shifts) if shifts else None
    return made


def gathered(slots: Slots, which: Sequence[int]) -> Slots:
    """The rows of these indices, without places that are padding in all of them."""
    made, once, index = Slots(), Recent(16), torch.tensor(list(which), dtype=torch.long)
    if not which:
        return made
    for layer, one in slots.layers.items():
        assert one.k is not None
        assert one.v is not None
        size = None if one.size is None else once(_rows, one.size, index)
        made.layers[layer] = Slot(once(_rows, one.positions, index), once(_rows, one.valid, index), one.k[index],
                                  one.v[index], size)  # fmt: skip
    made.length = slots.length
    made.following = None if slots.following is None else slots.following[index]
    made.shift = None if slots.shift is None else slots.shift[index]
    made.shed()
    return made


def _joined(slots: Sequence[Slot], once: Recent) -> Slot:
    """Layers that hold the same tokens go on sharing what is said of them."""
    size = None
    if any(one.size is not None for one in slots):
        size = once(_stacked, 1.0, *[once(_ones, one.valid) if one.size is None else one.size for one in slots])
    return Slot(
        once(_stacked, 0, *[one.positions for one in slots]), once(_stacked, False, *[one.valid for one in slots]),
        _entries([one.k for one in slots]), _entries([one.v for one in slots]), size,
    )  # fmt: skip


def _stacked(fill: float, *parts: Tensor) -> Tensor:
    width = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (width - part.shape[1], 0), value=fill) for part in parts])


def _entries(parts: Sequence[Tensor | None]) -> Tensor:
    there = [part for part in parts if part is not None]
    width = max(part.shape[2] for part in there)
    return torch.cat([F.pad(part, (0, 0, width - part.shape[2], 0)) for part in there])


def _ones(like: Tensor) -> Tensor:
    return torch.ones(like.shape, device=like.device)


def _rows(t: Tensor, index: Tensor) -> Tensor:
    return t[index]
