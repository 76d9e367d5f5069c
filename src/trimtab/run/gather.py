"""The statistics at the inputs of a block's linears, gathered by taps while the block runs.

Linears of one stage share an input, hence one Gram. With one stream the block runs once: the first linear of a stage to
be called gathers, lets the stage be fitted and then answers with its new weight, so that what comes later in the block
already sees the trimmed model. With several streams the block is replayed up to each stage, and the Grams are merged in
order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from trimtab.anatomy import Block
from trimtab.core.errors import Anomaly
from trimtab.core.keep import Stream
from trimtab.core.linear import Linear, Tap
from trimtab.core.stats import PADDING, Gram

Stage = Sequence[Linear]
Settle = Callable[[Stage, Gram], None]


class _Reached(Exception):
    """Ends a replay at the stage for which it was made."""


def gram_of(x: Tensor, stream: Stream, name: str) -> Gram:
    """The Gram of the input ``x`` of linear ``name``, kinds as in the stream whose tokens it sees.

    Where ``x`` has fewer rows than the stream (a pooled token, patches without CLS) they are taken to be of the only
    kind that the stream has. Raises Anomaly where it has several.
    """
    kinds = torch.where(stream.valid, stream.kinds, PADDING)
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) != kinds.numel():
        found = [kind for kind in kinds.unique().tolist() if kind != PADDING]
        if len(found) != 1:
            raise Anomaly(f"{name}: saw {len(rows)} rows of a stream of {kinds.numel()} tokens of kinds {found}")
        kinds = torch.full((len(rows),), found[0])
    gram = Gram(x.shape[-1])
    gram.add(rows, kinds.flatten())
    return gram


@contextmanager
def tapped(stages: Sequence[Stage], tap: Callable[[Stage], Tap]) -> Iterator[None]:
    """Each stage's linears with the tap made for it, and without it afterwards."""
    for stage in stages:
        made = tap(stage)
        for host in stage:
            host.tap = made
    try:
        yield
    finally:
        for stage in stages:
            for host in stage:
                host.tap = None


def once(block: Block, stream: Stream, stages: Sequence[Stage], settle: Settle) -> Stream:
    """Run the block over all there is; each stage is settled when its first linear is called."""

    def make(stage: Stage) -> Tap:
        called: set[str] = set()

        def tap(host: Linear, x: Tensor) -> None:
            if host.name in called:
                raise Anomaly(f"{host.name}: called twice in block {block.name}; its anatomy must call it once")
            if not called:
                settle(stage, gram_of(x, block.rows(stream, host.name), host.name))
            called.add(host.name)

        return tap

    with tapped(stages, make):
        return block(stream)


def up_to(block: Block, stream: Stream, stage: Stage) -> Gram | None:
    """Run the block as far as ``stage``; None where the stream never comes there (a batch without pictures)."""
    found: list[Gram] = []

    def tap(host: Linear, x: Tensor) -> None:
        found.append(gram_of(x, block.rows(stream, host.name), host.name))
        raise _Reached

    with tapped([stage], lambda _: tap):
        try:
            block(stream)
        except _Reached:
            return found[0]
    return None


def replayed(block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle) -> list[Stream]:
    """For each stage the block's prefix per stream, Grams merged in order; then the whole block per stream."""
    for stage in stages:
        total: Gram | None = None
        for stream in streams:
            gram = up_to(block, stream, stage)
            if total is None:
                total = gram
            elif gram is not None:
                total.merge(gram)
        if total is not None:
            settle(stage, total)
    return [block(stream) for stream in streams]


def run(block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle) -> list[Stream]:
    """The block over all streams, its stages settled on the way."""
    if not stages:
        return [block(stream) for stream in streams]
    if len(streams) == 1:
        return [once(block, streams[0], stages, settle)]
    return replayed(block, streams, stages, settle)
