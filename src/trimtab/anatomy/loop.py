"""The loop that drives the blocks: the whole prompt once (``prefill``), then token by token (``step``).

Token policies drop or merge tokens on the way; those that stay keep their positions, and logits are handed back at the
original length, NaN where a token was dropped. Cache policies change what a layer stores, once it has run. Without
policies nothing is moved, so that ``keep=1.0`` is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.anatomy.base import Anatomy, Batch
from trimtab.anatomy.decoder import GRID
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput, Refused
from trimtab.core.evict import CachePolicy
from trimtab.core.keep import Act, Merge, Place, Sight, Stream

ALIGN = 16


@runtime_checkable
class Policy(Protocol):
    """What the loop asks of a token policy; methods make ``Keep`` and ``Merge`` of ``trimtab.core.keep``."""

    @property
    def at(self) -> Place: ...
    @property
    def act(self) -> Act: ...
    @property
    def idle(self) -> bool: ...

    def chosen(self, sight: Sight) -> Bool[Tensor, "b t"]:
        """True at every token that stays."""


Policies = Sequence[Policy | CachePolicy]


@dataclass(frozen=True)
class Kept:
    """For one policy, how many valid tokens each row had before it and after, (b,)."""

    before: Integer[Tensor, " b"]
    after: Integer[Tensor, " b"]


@dataclass(frozen=True)
class Output:
    """``logits`` (b, T, vocabulary) at the original length, or what the head of a model without logits answers;
    ``stream`` as it entered the head; ``slots`` as they were given, filled; ``kept`` for each token policy."""

    logits: Any
    stream: Stream
    slots: Slots | None
    kept: tuple[Kept, ...] = ()


def prefill(
    anatomy: Anatomy,
    batch: Batch,
    policies: Policies = (),
    slots: Slots | None = None,
    *,
    logits_to_keep: int = 0,
) -> Output:
    """Run a batch of prompts. ``slots``, empty ones, are filled, and kept from then on by the cache policies, which
    change nothing where there are none. ``logits_to_keep``: only for the last n tokens of the original sequence, 0 for
    all. Raises BadInput for a policy at a layer that is not there, Refused for what cannot be done faithfully."""
    chosen, cache = by_layer(anatomy, policies), of_cache(anatomy, policies)
    if slots is not None and slots.length:
        raise Refused("slots: got a cache that is not empty; accepted: an empty one, or step() for the next tokens")
    looked = slots is not None and any(policy.at.when == "prefill" for policy in cache)
    if slots is not None:
        slots.policies = cache
    stream = anatomy.embed(batch)
    length, kept = stream.x.shape[1], []
    grid_shift = past_the_grid(stream)
    positions, valid = stream.positions, stream.valid
    sight = Sight(stream, 0)
    for number, index in enumerate(anatomy.layers()):
        if number in chosen:
            stream, counts = shortened(chosen[number], replace(sight, stream=stream, layer=number))
            kept.append(counts)
        seen: list[Sight] = []
        see = _witness(stream, number + 1, seen) if looked or acts(chosen, number + 1) else None
        stream = anatomy.blocks()[index](stream, slots, see)
        sight = seen[-1] if seen else sight
        if slots is not None:
            slots.settle(number, sight)
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
    """The next tokens, as text; their positions follow the newest that went into ``slots``. Several at once see one
    another, and cache policies act on them together."""
    if slots.following is None:
        raise BadInput("slots: got an empty cache; accepted: one that prefill() has filled")
    if valid is None:
        valid = torch.ones_like(ids, dtype=torch.bool)
    positions = (slots.following[:, None] + valid.long().cumsum(1) - 1).masked_fill(~valid, 0)
    stream = anatomy.words(ids, positions, valid)
    if slots.shift is not None:
        place = positions + slots.shift[:, None]
        stream = replace(stream, side={**stream.side, GRID: place[..., None].expand(-1, -1, 3)})
    for number, index in enumerate(anatomy.layers()):
        stream = anatomy.blocks()[index](stream, slots)
        slots.settle(number)
    slots.advance(positions, valid)
    return Output(_logits(anatomy, stream, ids.shape[1], logits_to_keep, True), stream, slots)


def past_the_grid(stream: Stream) -> Integer[Tensor, " b"] | None:
    """By how much the next word's place on the rotary grid is past its position; None without a grid."""
    grid = stream.side.get(GRID)
    if grid is None:
        return None
    furthest = grid.amax(2).masked_fill(~stream.valid, -1).amax(1)
    return furthest - stream.positions.masked_fill(~stream.valid, -1).amax(1)


def acts(chosen: Mapping[int, Policy], layer: int) -> bool:
    """Whether the policy at ``layer`` has to look at what is there."""
    return layer in chosen and not chosen[layer].idle


def shortened(policy: Policy, sight: Sight) -> tuple[Stream, Kept]:
    """The stream without what ``policy`` gives up; the last valid token of each row always stays.

    Rows that keep fewer tokens than others are filled up on the left, so that the newest token stays last, and all of
    them to a multiple of ``ALIGN`` where that is shorter than the stream: attention over 141 bfloat16 tokens takes
    twice the time of attention over 144 (torch 2.13, AMX).
    """
    if policy.idle:
        return sight.stream, Kept(*[sight.stream.valid.sum(1)] * 2)
    stream, chosen = _acted(policy, sight)
    counts = Kept(stream.valid.sum(1), chosen.sum(1))
    if torch.equal(chosen, stream.valid):
        return sight.stream, counts
    size = min(ceil(int(counts.after.max()) / ALIGN) * ALIGN, stream.x.shape[1])
    order = chosen.long().argsort(dim=1, stable=True)[:, -size:]  # the chosen ones, in order, on the right
    return stream.gather(order, chosen.gather(1, order)), counts


def _acted(policy: Policy, sight: Sight) -> tuple[Stream, Bool[Tensor, "b t"]]:
    """The stream, with all that merges in what it goes into, and which of its tokens stay."""
    stream = sight.stream
    here = torch.arange(stream.x.shape[1], device=stream.x.device)
    last = here == (here * stream.valid).amax(1, keepdim=True)
    if policy.act == "merge":
        into = torch.where(last, here, cast(Merge, policy).into(sight))
        return stream.fold(into), stream.valid & (into == here)
    chosen = stream.valid & (policy.chosen(sight) | last)
    return stream, chosen


def _witness(stream: Stream, layer: int, found: list[Sight]) -> Any:
    def see(q: Tensor, k: Tensor, mask: Tensor | None, scaling: float | None) -> None:
        found.append(Sight(stream, layer, q, k, mask, scaling))

    return see


def by_layer(anatomy: Anatomy, policies: Policies) -> dict[int, Policy]:
    """The token policy of each layer that has one. Raises BadInput for a layer that is not there, Refused for two at
    one."""
    if any(policy.at.axis == "token" for policy in policies) and not anatomy.decodes:
        kind = anatomy.model.config.model_type
        raise Refused(f"policies: token policies need a model that generates text in the loop; {kind!r} does not")
    chosen: dict[int, Policy] = {}
    for policy in policies:
        if policy.at.axis != "token":
            continue
        layer, count = policy.at.layer, len(anatomy.layers())
        if not 0 <= layer < count:
            raise BadInput(f"layer: got {layer}; accepted: 0 to {count - 1}, the decoder's layers")
        if layer in chosen:
            raise Refused(f"layer: got two token policies at layer {layer}; accepted: one for each layer")
        chosen[layer] = cast(Policy, policy)
    return chosen


def of_cache(anatomy: Anatomy, policies: Policies) -> tuple[CachePolicy, ...]:
    """The cache policies in the order in which they act: what chooses from the prompt, then what drops as it goes on,
    then what stores in another form. Raises Refused for a model without a cache, or two that stand in one place."""
    found = [cast(CachePolicy, policy) for policy in policies if policy.at.axis == "cache"]
    if found and not anatomy.decodes:
        kind = anatomy.model.config.model_type
        raise Refused(f"policies: cache policies need a model that generates text in the loop; {kind!r} does not")
    looking = sum(policy.at.when == "prefill" for policy in found)
    coding = sum(policy.act == "requantize" for policy in found)
    for count, what in ((looking, "choose from the prompt"), (coding, "store entries in another form")):
        if count > 1:
            raise Refused(f"policies: got {count} cache policies that {what}; accepted: one")
    return tuple(sorted(found, key=lambda policy: (policy.act == "requantize", policy.at.when == "step")))


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
