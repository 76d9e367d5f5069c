"""A batch of prompts by the plan: the loop's ``prefill`` with the layers in few calls.

Pictures, words and what a token policy decides are the loop's own; so is the one layer before a policy that acts within
the stack, since it looks at that layer's queries and keys. What lies between is the plan's. Prompts whose tokens see
one another in other ways (blocks, grids, sizes, additions on the way) and cache policies stay with the loop altogether.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.anatomy.base import Anatomy, Batch
from trimtab.anatomy.loop import Kept, Policies, Policy, acts, by_layer, of_cache, shortened
from trimtab.anatomy.slots import Slots
from trimtab.core.keep import Sight, Stream
from trimtab.runtime.plan.engine import ROWS, Engine
from trimtab.runtime.plan.entries import Cache, Entries
from trimtab.runtime.plan.prefix import Content, Prefixes


@dataclass(frozen=True)
class Prompted:
    """``logits`` (b, n, words) float32 of the last n tokens of the original sequence, where a policy drops some NaN at
    these and at padding, else 0 at padding;
    ``cache`` of every row; ``positions`` and ``valid`` as the prompts came; ``kept`` for each token policy."""

    logits: Float[Tensor, "b n words"]
    cache: Cache
    positions: Tensor
    valid: Tensor
    kept: tuple[Kept, ...]


def prompted(
    engine: Engine,
    batch: Batch,
    policies: Policies = (),
    *,
    logits_to_keep: int = 0,
    view: Anatomy | None = None,
    prefixes: Prefixes | None = None,
) -> Prompted | None:
    """None where the loop has to do it. ``view``: what makes a stream of ``batch``, by default the plan's anatomy;
    ``prefixes``: beginnings that need not be read again. Raises as ``prefill`` does."""
    anatomy, spec = view or engine.plan.anatomy, engine.plan.spec
    chosen = by_layer(anatomy, policies)
    if of_cache(anatomy, policies) or any(policy.act == "merge" and not policy.idle for policy in chosen.values()):
        return None
    stream = anatomy.embed(batch)
    if stream.side or int(stream.positions.max()) >= engine.plan.angles.most or not ascending(stream):
        return None
    rows, length = stream.x.shape[:2]
    empty = [[Entries.empty(spec.shared, spec.size) for _ in range(spec.count)] for _ in range(rows)]
    run = _Run(engine, Cache(empty), length - logits_to_keep if 0 < logits_to_keep < length else 0, chosen,
               prefixes)  # fmt: skip
    logits = run.through(stream, length)
    return Prompted(logits, run.cache, stream.positions, stream.valid, tuple(run.kept))


def ascending(stream: Stream) -> bool:
    """Whether every token's position is past those before it: the plan sees what stands before, the loop what is of a
    smaller position."""
    before = stream.positions.masked_fill(~stream.valid, -1).cummax(1).values[:, :-1]
    return not bool((stream.valid[:, 1:] & (stream.positions[:, 1:] <= before)).any())


def calls(rows: Sequence[Integer[Tensor, " rows"]]) -> Iterator[Integer[Tensor, " part"]]:
    """The ``rows`` of each sequence in parts for one call: sequences share calls, since each reads all matrices; one
    that is longer than a call has several of its own, in equal parts."""
    together: list[Tensor] = []
    for one in rows:
        if len(one) > ROWS:
            yield from one.tensor_split(-(-len(one) // ROWS))
            continue
        if sum(map(len, together)) + len(one) > ROWS:
            yield torch.cat(together)
            together = []
        together += [one] if len(one) else []
    if together:
        yield torch.cat(together)


class _Run:
    def __init__(
        self, engine: Engine, cache: Cache, first: int, chosen: Mapping[int, Policy], prefixes: Prefixes | None
    ) -> None:
        self.engine, self.cache, self.first, self.chosen, self.prefixes = engine, cache, first, chosen, prefixes
        self.anatomy: Anatomy = engine.plan.anatomy
        self.kept: list[Kept] = []

    def through(self, stream: Stream, length: int) -> Float[Tensor, "b n words"]:
        """Every layer, then the logits at their original places."""
        total, number, sight = self.engine.plan.count, 0, Sight(stream, 0)
        shape = len(stream.x), length - self.first, self.engine.plan.words
        logits = torch.full(shape, torch.nan if self.chosen else 0.0, dtype=torch.float32)
        while number < total:
            if number in self.chosen:
                stream, counts = shortened(self.chosen[number], replace(sight, stream=stream, layer=number))
                self.kept.append(counts)
            if acts(self.chosen, number + 1):
                stream, sight = self.looked_at(stream, number)
                number += 1
                continue
            end = next(at for at in count(number + 1) if at in (total, *self.chosen) or acts(self.chosen, at + 1))
            stream = self.layers(stream, range(number, end), logits if end == total else None)
            sight, number = Sight(stream, end), end
        return logits

    def looked_at(self, stream: Stream, number: int) -> tuple[Stream, Sight]:
        """A layer by the loop, and what the policy behind it may look at."""
        slots, seen = Slots(), list[Sight]()

        def see(q: Tensor, k: Tensor, mask: Tensor | None, scaling: float | None) -> None:
            seen.append(Sight(stream, number + 1, q, k, mask, scaling))

        behind = self.anatomy.blocks()[self.anatomy.layers()[number]](stream, slots, see)
        for row, entries in enumerate(self.cache.sequences):
            entries[number] = Entries.of(slots.layers[number], row)
        return behind, seen[-1]

    def unread(self, index: int, rows: Tensor, content: Content, source: Tensor) -> Tensor:
        """Of a sequence's ``rows`` those that have to be read: its cache begins with what is known of the others, and
        none whose logits are asked for is among these."""
        assert self.prefixes is not None
        found = self.prefixes.longest(content, int((source[rows[:-1]] < self.first).sum()))
        if not found:
            return rows
        self.cache.sequences[index] = found
        return rows[found[0].count :]

    def layers(self, stream: Stream, layers: range, logits: Tensor | None) -> Stream:
        """``layers`` by the plan; with ``logits`` those of the tokens that are asked for are written there, and what
        leaves the last layer is not."""
        batch, width = stream.valid.shape
        rows = list(stream.valid.flatten().nonzero()[:, 0].split(stream.valid.sum(1).tolist()))
        x, behind = stream.x.flatten(0, 1), None if logits is not None else torch.zeros_like(stream.x).flatten(0, 1)
        sequence = torch.arange(batch).repeat_interleave(width)
        source, positions = stream.source.flatten(), stream.positions.flatten()
        whole = self.prefixes is not None and len(layers) == self.engine.plan.count
        read = [Content(x[one], positions[one]) for one in rows] if whole else []
        for part in calls([self.unread(index, rows[index], one, source) for index, one in enumerate(read)] or rows):
            wanted = source[part] >= self.first if logits is not None else torch.zeros(len(part), dtype=torch.bool)
            found = self.engine.step(self.cache, x[part], positions[part], sequence[part], wanted=wanted,
                                     left=behind is not None, layers=layers)  # fmt: skip
            if behind is not None:
                assert found.left is not None
                behind[part] = found.left.to(behind.dtype)
            if found.logits is not None:
                assert logits is not None
                at = part[wanted]
                logits[at // width, source[at] - self.first] = found.logits
        for index, one in enumerate(read):
            assert self.prefixes is not None
            self.prefixes.put(one, self.cache.sequences[index])
        return stream if behind is None else replace(stream, x=behind.view_as(stream.x))
