"""A decoder as a graph: words or vectors, a mask over past and present, and each layer's keys and values in and out.

The blocks are the anatomy's own; what stands in their way is put aside: masks are made from lengths alone (whether one
is needed at all depends on data), and the cache is a list of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from trimtab.anatomy.base import placed

Past = list[Tensor]
"""Keys and values (b, kv heads, past, head width) of each layer in turn."""


class Slots:
    """What the loop's blocks ask of a KV cache, over ``past``; ``present`` holds past and new entries afterwards."""

    is_compileable = False

    def __init__(self, past: Past, valid: Bool[Tensor, "b s"]) -> None:
        self.past, self.valid = past, valid
        self.present: dict[int, tuple[Tensor, Tensor]] = {}
        self.layers = {index: SimpleNamespace(size=None) for index in range(len(past) // 2)}

    def extend(self, layer: int, *_: Any) -> tuple[Any, Tensor]:
        """Keys are told by their index, not by positions: they have none here, and so no shape."""
        return SimpleNamespace(shape=None), self.valid

    def update(self, k: Tensor, v: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append, and return all keys and values of the layer."""
        found = torch.cat([self.past[2 * layer], k], 2), torch.cat([self.past[2 * layer + 1], v], 2)
        self.present[layer] = found
        return found

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Entries of the past."""
        return self.past[0].shape[2]

    def all(self) -> list[Tensor]:
        """As ``past`` is given."""
        return [tensor for index in sorted(self.present) for tensor in self.present[index]]


def seen(
    _: Any, queries: Integer[Tensor, "b t"], keys: Any, valid: Bool[Tensor, "b s"], window: int | None, *__: Any
) -> Bool[Tensor, "b 1 t s"]:
    """What ``masks.causal`` gives for tokens in their order, without a step that depends on data: a query sees the
    valid keys up to its own place, ``window`` of them at most, and itself. The queries are the last of the keys."""
    count, stored = queries.shape[1], valid.shape[1]
    here = torch.arange(stored, device=valid.device)
    gap = (torch.arange(count, device=valid.device) + (stored - count))[:, None] - here
    near = gap >= 0 if window is None else (gap >= 0) & (gap < window)
    return ((near & valid[:, None, :]) | (gap == 0))[:, None]


class Decoding(nn.Module):
    """(ids or vectors, attention_mask (b, past + t), position_ids (b, t), past) -> (logits, present ...)."""

    def __init__(self, anatomy: Any) -> None:
        super().__init__()
        self.model = anatomy.model
        anatomy.decoder = replace(anatomy.decoder, seen=seen)
        self.anatomy = anatomy
        self.layers = [anatomy.build()[index] for index in _language(anatomy.build())]

    def run(self, x: Tensor, mask: Tensor, positions: Tensor, past: Past) -> tuple[Tensor, ...]:
        slots = Slots(past, mask.bool())
        stream = placed(x, torch.zeros_like(positions), positions, torch.ones_like(positions, dtype=torch.bool))
        for block in self.layers:
            stream = block(stream, slots)
        return (self.anatomy.head(stream), *slots.all())


class FromWords(Decoding):
    def forward(
        self, input_ids: Integer[Tensor, "b t"], attention_mask: Tensor, position_ids: Tensor, past: Past
    ) -> tuple[Tensor, ...]:
        x = self.anatomy.words(input_ids, position_ids, torch.ones_like(input_ids, dtype=torch.bool)).x
        return self.run(x, attention_mask, position_ids, past)


class FromVectors(Decoding):
    def forward(
        self, inputs_embeds: Float[Tensor, "b t d"], attention_mask: Tensor, position_ids: Tensor, past: Past
    ) -> tuple[Tensor, ...]:
        return self.run(inputs_embeds, attention_mask, position_ids, past)


class Words(nn.Module):
    """ids (b, t) -> vectors (b, t, d), as they enter the decoder."""

    def __init__(self, anatomy: Any) -> None:
        super().__init__()
        self.table = getattr(anatomy.decoder.module, anatomy.decoder.table)

    def forward(self, input_ids: Integer[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        found: Tensor = self.table(input_ids)
        return found


def _language(blocks: Sequence[Any]) -> list[int]:
    return [index for index, block in enumerate(blocks) if block.part == "language"]
