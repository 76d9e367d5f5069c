"""The loop that drives the blocks: the whole prompt once (``prefill``), then token by token (``step``).

Policies drop tokens on the way; those that stay keep their positions, and logits are handed back at the original
length, NaN where a token was dropped. Without policies nothing is moved, so that ``keep=1.0`` is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.anatomy.base import Anatomy, Batch
from trimtab.anatomy.decoder import GRID
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput, Refused
from trimtab.core.keep import Place, Sight, Stream

ALIGN = 16


@runtime_checkable
class Policy(Protocol):
    """What the loop asks of a token policy; ``trimtab.core.keep.Keep`` is the one that methods make."""

    @property
    def at(self) -> Place: ...

    def chosen(self, sight: Sight) -> Bool[Tensor, "b t"]:
        """True at every token that stays."""


@dataclass(frozen=True)
class Kept:
    """For one policy, how many valid tokens each row had before it and after, (b,)."""

    before: Integer[Tensor, " b"]
    after: Integer[Tensor, " b"]


@dataclass(frozen=True)
class Output:
    """``logits`` (b, T, vocabulary) at the original length, or what the head of a model without logits answers;
    ``stream`` as it entered the head; ``slots`` as they were given, filled; ``kept`` for each policy."""

    logits: Any
    stream: Stream
    slots: Slots | None
    kept: tuple[Kept, ...] = ()


def prefill(
    anatomy: Anatomy,
    batch: Batch,
    policies: Sequence[Policy] = (),
    slots: Slots | None = None,
    *,
    logits_to_keep: int = 0,
) -> Output:
    """Run a batch of prompts. ``slots``, empty ones, are filled. ``logits_to_keep``: only for the last n tokens of the
    original sequence, 0 for all. Raises BadInput for a policy at a layer that is not there, Refused for what cannot be
    done faithfully."""
    chosen = by_layer(anatomy, policies)
    if slots is not None and slots.length:
        raise Refused("slots: got a cache that is not empty; accepted: an empty one, or step() for the next tokens")
    stream = anatomy.embed(batch)
    length, kept = stream.x.shape[1], []
    grid_shift = past_the_grid(stream)
    positions, valid = stream.positions, stream.valid
    sight = Sight(stream, 0)
    for number, index in enumerate(anatomy.layers()):
        if number in chosen:
            stream, counts = drop(chosen[number], replace(sight, stream=stream, layer=number))
            kept.append(counts)
        seen: list[Sight] = []
        see = _witness(stream, number + 1, seen) if number + 1 in chosen else None
        stream = anatomy.blocks()[index](stream, slots, see)
        sight = seen[-1] if seen else sight
    whole = stream.valid is valid
    if slots is not None:
        slots.advance(positions, valid)
        slots.shift = grid_shift
        if not whole:
            slots.shed()
    logits = _logits(anatomy, stream, length, logits_to_keep, whole)
    return Output(logits, stream, slots, tuple(kept))


def step(
    anatomy: Anatomy,
    ids: Integer[Tensor, "b n"],
    slots: Slots,
    valid: Bool[Tensor, "b n"] | None = None,
    *,
    logits_to_keep: int = 0,
) -> Output:
    """The next tokens, as text; their positions follow the newest that went into ``slots``."""
    if slots.following is None:
        raise BadInput("slots: got an empty cache; accepted: one that prefill() has filled")
    if valid is None:
        valid = torch.ones_like(ids, dtype=torch.bool)
    positions = (slots.following[:, None] + valid.long().cumsum(1) - 1).masked_fill(~valid, 0)
    stream = anatomy.words(ids, positions, valid)
    if slots.shift is not None:
        place = positions + slots.shift[:, None]
        stream = replace(stream, side={**stream.side, GRID: place[..., None].expand(-1, -1, 3)})
    for index in anatomy.layers():
        stream = anatomy.blocks()[index](stream, slots)
    slots.advance(positions, valid)
    return Output(_logits(anatomy, stream, ids.shape[1], logits_to_keep, True), stream, slots)


def past_the_grid(stream: Stream) -> Integer[Tensor, " b"] | None:
    """By how much the next word's place on the rotary grid is past its position; None without a grid."""
    grid = stream.side.get(GRID)
    if grid is None:
        return None
    furthest = grid.amax(2).masked_fill(~stream.valid, -1).amax(1)
    return furthest - stream.positions.masked_fill(~stream.valid, -1).amax(1)


def drop(policy: Policy, sight: Sight) -> tuple[Stream, Kept]:
    """The stream without what ``policy`` gives up; the last valid token of each row always stays.

    Rows that keep fewer tokens than others are filled up on the left, so that the newest token stays last, and all of
    them to a multiple of ``ALIGN`` where that is shorter than the stream: attention over 141 bfloat16 tokens takes
    twice the time of attention over 144 (torch 2.13, AMX).
    """
    stream = sight.stream
    here = torch.arange(stream.x.shape[1], device=stream.x.device)
    last = here == (here * stream.valid).amax(1, keepdim=True)
    chosen = stream.valid & (policy.chosen(sight) | last)
    counts = Kept(stream.valid.sum(1), chosen.sum(1))
    if torch.equal(chosen, stream.valid):
        return stream, counts
    size = min(ceil(int(counts.after.max()) / ALIGN) * ALIGN, stream.x.shape[1])
    order = chosen.long().argsort(dim=1, stable=True)[:, -size:]  # the chosen ones, in order, on the right
    return stream.gather(order, chosen.gather(1, order)), counts


def _witness(stream: Stream, layer: int, found: list[Sight]) -> Any:
    def see(q: Tensor, k: Tensor, mask: Tensor | None, scaling: float | None) -> None:
        found.append(Sight(stream, layer, q, k, mask, scaling))

    return see


def by_layer(anatomy: Anatomy, policies: Sequence[Policy]) -> dict[int, Policy]:
    """The policy of each layer that has one. Raises BadInput for a layer that is not there, Refused for two at one."""
    if policies and not anatomy.decodes:
        kind = anatomy.model.config.model_type
        raise Refused(f"policies: token policies need a model that generates text in the loop; {kind!r} does not")
    chosen: dict[int, Policy] = {}
    for policy in policies:
        layer, count = policy.at.layer, len(anatomy.layers())
        if not 0 <= layer < count:
            raise BadInput(f"layer: got {layer}; accepted: 0 to {count - 1}, the decoder's layers")
        if layer in chosen:
            raise Refused(f"layer: got two token policies at layer {layer}; accepted: one for each layer")
        chosen[layer] = policy
    return chosen


def _logits(anatomy: Anatomy, stream: Stream, length: int, last: int, whole: bool) -> Any:
    """The head's answer at the original length; ``whole``: every token is still where it was."""
    if not anatomy.decodes:
        return anatomy.head(stream)
    first = length - last if 0 < last < length else 0
    if first:
        stream = _columns(stream, (stream.source >= first).any(0))
    logits: Float[Tensor, "b n v"] = anatomy.head(stream)
    if whole:
        return logits
    spread = logits.new_full((logits.shape[0], length - first, logits.shape[2]), torch.nan)
    row, column = (stream.valid & (stream.source >= first)).nonzero(as_tuple=True)
    spread[row, stream.source[row, column] - first] = logits[row, column]
    return spread


def _columns(stream: Stream, which: Bool[Tensor, " t"]) -> Stream:
    index = which.nonzero()[:, 0].expand(len(stream.x), -1)
    return stream.gather(index, stream.valid.gather(1, index))
