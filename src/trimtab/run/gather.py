"""The statistics at the inputs of a block's linears, gathered by taps while the block runs.

Linears of one stage share an input, hence one Gram. With one stream the block runs once: the first linear of a stage to
be called gathers, lets the stage be fitted and then answers with its new weight, so that what comes later in the block
already sees the trimmed model. With several streams the block is replayed up to each stage, and its Gram takes them in
order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from trimtab.anatomy import Block
from trimtab.core.errors import Anomaly
from trimtab.core.keep import Stream
from trimtab.core.linear import Linear, Tap
from trimtab.core.stats import PADDING, Gram

Stage = Sequence[Linear]
Settle = Callable[[Stage, Gram], None]
Make = Callable[[str, int], Gram]
"""An empty Gram for the input of the linear of that name, so many numbers wide."""


class _Reached(Exception):
    """Ends a replay at the stage for which it was made."""


def plain(name: str, width: int) -> Gram:
    """A Gram to which all rows count alike."""
    return Gram(width)


def add(gram: Gram, x: Tensor, stream: Stream, name: str) -> None:
    """The input ``x`` of linear ``name`` into ``gram``, kinds as in the stream whose tokens it sees.

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
    gram.add(rows, kinds.flatten())


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


def once(block: Block, stream: Stream, stages: Sequence[Stage], settle: Settle, make: Make = plain) -> Stream:
    """Run the block over all there is; each stage is settled when its first linear is called."""

    def tap_of(stage: Stage) -> Tap:
        called: set[str] = set()

        def tap(host: Linear, x: Tensor) -> None:
            if host.name in called:
                raise Anomaly(f"{host.name}: called twice in block {block.name}; its anatomy must call it once")
            if not called:
                gram = make(host.name, x.shape[-1])
                add(gram, x, block.rows(stream, host.name), host.name)
                settle(stage, gram)
            called.add(host.name)

        return tap

    with tapped(stages, tap_of):
        return block(stream)


def up_to(block: Block, stream: Stream, stage: Stage, gram: Gram) -> None:
    """Run the block as far as ``stage``, whose input goes into ``gram``; without pictures a batch may not get there."""

    def tap(host: Linear, x: Tensor) -> None:
        add(gram, x, block.rows(stream, host.name), host.name)
        raise _Reached

    with tapped([stage], lambda _: tap), suppress(_Reached):
        block(stream)


def replayed(
    block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle, make: Make = plain
) -> list[Stream]:
    """For each stage the block's prefix per stream, in order; then the whole block per stream."""
    for stage in stages:
        gram = make(stage[0].name, stage[0].in_features)
        for stream in streams:
            up_to(block, stream, stage, gram)
        if gram.seen.any():
            settle(stage, gram)
    return [block(stream) for stream in streams]


def run(
    block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle, make: Make = plain
) -> list[Stream]:
    """The block over all streams, its stages settled on the way."""
    if not stages:
        return [block(stream) for stream in streams]
    if len(streams) == 1:
        return [once(block, streams[0], stages, settle, make)]
    return replayed(block, streams, stages, settle, make)
