"""The statistics at the inputs of a block's linears, gathered by taps while the block runs.

Linears of one stage share an input, hence one Gram. The block runs once over each stream: at the first linear of a
stage it gathers and halts, and when all have come there the stage is fitted and they go on with its new weights, so
that what comes later in the block already sees the trimmed model. Where so much cannot be held the block is replayed up
to each stage instead. A Gram takes the streams in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor
from torch.nn import functional as F

from trimtab.anatomy import Block
from trimtab.core.errors import Anomaly
from trimtab.core.keep import Stream
from trimtab.core.linear import Linear, Tap
from trimtab.core.stats import PADDING, Gram
from trimtab.core.weight import Dense

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


class _Pass(greenlet):
    """One stream on its way through the block: it stops where the next unsettled stage is called, and goes on later
    with the new weights. ``waits`` is that stage's index, None once it is through; ``behind`` what came out."""

    def __init__(self, block: Block, stream: Stream) -> None:
        super().__init__()
        self.block, self.stream = block, stream
        self.waits: int | None = None
        self.behind: Stream | None = None
        self.called: set[str] = set()

    def run(self) -> None:
        self.behind = self.block(self.stream)
        self.waits = None


def together(
    block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle, make: Make = plain
) -> list[Stream]:
    """Every stream once through the block, all of them halting at each stage until it is settled: one forward, and what
    is held is one block's activations. Streams that never come to a stage wait for nobody."""
    settled: set[int] = set()
    grams: dict[int, Gram] = {}

    def tap_of(stage: Stage) -> Tap:
        index = next(i for i, one in enumerate(stages) if one is stage)

        def tap(host: Linear, x: Tensor) -> None:
            here = getcurrent()
            assert isinstance(here, _Pass)
            if host.name in here.called:
                raise Anomaly(f"{host.name}: called twice in block {block.name}; its anatomy must call it once")
            here.called.add(host.name)
            if index in settled:
                return
            if index not in grams:
                grams[index] = make(host.name, x.shape[-1])
            add(grams[index], x, block.rows(here.stream, host.name), host.name)
            here.waits = index
            halt()

        return tap

    halt, passes = getcurrent().switch, [_Pass(block, stream) for stream in streams]
    with tapped(stages, tap_of):
        for one in passes:
            one.switch()
        while waiting := [one.waits for one in passes if one.waits is not None]:
            index = min(waiting)
            settle(stages[index], grams.pop(index))
            settled.add(index)
            for one in passes:
                if one.waits == index:
                    one.switch()
    return [one.behind for one in passes if one.behind is not None]


def up_to(block: Block, stream: Stream, stage: Stage, gram: Gram) -> None:
    """Run the block as far as ``stage``, whose input goes into ``gram``; without pictures a batch may not get there."""

    def tap(host: Linear, x: Tensor) -> None:
        add(gram, x, block.rows(stream, host.name), host.name)
        raise _Reached

    with tapped([stage], lambda _: tap), suppress(_Reached):
        block(stream)


def replayed(
    block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle, make: Make
) -> list[Stream]:
    """For each stage the block's prefix per stream, in order; then the whole block per stream."""
    for stage in stages:
        gram = make(stage[0].name, stage[0].in_features)
        for stream in streams:
            up_to(block, stream, stage, gram)
        if gram.seen.any():
            settle(stage, gram)
    return [block(stream) for stream in streams]


@contextmanager
def unpacked(hosts: Sequence[Linear]) -> Iterator[Callable[[Stage], None]]:
    """Matrices that are stored otherwise are dense while many streams go through them; gives what makes a stage's new
    ones dense. Hosts that have a kernel keep it."""
    mine = [host for host in hosts if host.kernel is None]

    def unpack(stage: Stage) -> None:
        for host in stage:
            if host in mine and host.acts is None and not isinstance(host.w, Dense):
                dense = host.w.dense().detach()
                host.kernel = lambda x, bias=None, dense=dense: F.linear(x, dense.to(x.dtype), bias)

    unpack(hosts)
    try:
        yield unpack
    finally:
        for host in mine:
            host.kernel = None


def run(
    block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle, make: Make, held: int
) -> list[Stream]:
    """The block over all streams, its stages settled on the way; replayed where they have more than ``held`` tokens."""
    if not stages:
        return [block(stream) for stream in streams]
    few = sum(stream.kinds.numel() for stream in streams) <= held
    return (together if few else replayed)(block, streams, stages, settle, make)
