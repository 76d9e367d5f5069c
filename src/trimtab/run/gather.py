"""The statistics at the inputs of a block's linears, gathered by taps while the block runs.

Linears of one stage share an input, hence one Gram. The block runs once over each stream: at the first linear of a
stage it gathers and halts, and when all have come there the stage is fitted and they go on with its new weights, so
that what comes later in the block already sees the trimmed model. Where so much cannot be held the block is replayed up
to each stage instead. Methods whose card says so are fitted on the model as it was: nothing halts then. Streams
run side by side (``lanes.py``); a Gram takes those of a lane in order, and the lanes' are merged in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import get_ident

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import Tensor
from torch.nn import functional as F

from trimtab.anatomy import Block
from trimtab.core.card import Card
from trimtab.core.errors import Anomaly
from trimtab.core.keep import Stream
from trimtab.core.linear import Linear, Tap
from trimtab.core.reservoir import Reservoir
from trimtab.core.stats import PADDING, Gram
from trimtab.core.weight import Dense
from trimtab.run.lanes import Lanes

Stage = Sequence[Linear]
Settle = Callable[[Stage, Gram], None]
Make = Callable[[str, int], Gram]
"""An empty Gram for the input of the linear of that name, so many numbers wide."""
SOME = 4_096
"""Rows whose second moment is gathered for the report, where the method does not use it."""


@dataclass(frozen=True)
class How:
    """``make``: see ``Make``. ``held``: tokens whose activations in one block are held, see ``run``. ``before``: the
    statistics are those of the model as it was. ``rows``: a sample of rows is wanted; a Reservoir must know how many
    came before its own, so one lane takes all."""

    make: Make
    held: int
    before: bool = False
    rows: bool = False

    @classmethod
    def of(cls, card: Card, held: int, make: Make | None) -> How:
        """For a method of this card; where ``make`` is None all rows count alike."""
        return cls(make or (lambda name, width: empty(card, width)), held, card.sees == "before", card.wants_rows)


class _Reached(Exception):
    """Ends a replay at the stage for which it was made."""


def empty(card: Card, width: int, weights: Tensor | None = None) -> Gram:
    """The Gram that a method of this card is fed; ``weights``: what a row of each kind counts, all alike where None."""
    return Gram(width, weights, Reservoir(width) if card.wants_rows else None, None if card.wants_moment else SOME)


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
    with the new weights. ``waits`` is the index of the stage that it came to last, None once it is through; ``behind``
    what came out; ``shown`` the stages whose input it has given."""

    def __init__(self, crew: _Crew, stream: Stream) -> None:
        super().__init__()
        self.crew, self.stream = crew, stream
        self.waits: int | None = None
        self.behind: Stream | None = None
        self.called: set[str] = set()
        self.shown: set[int] = set()

    def run(self) -> None:
        self.behind = self.crew.block(self.stream)
        self.waits = None


class _Crew:
    """The streams of one lane. ``grams``: what they have gathered, by stage; ``settled``: stages that nobody waits at
    any more, which all crews of a block share. Its methods are called on the lane's thread, to which passes belong."""

    def __init__(self, block: Block, streams: Sequence[Stream], make: Make, settled: set[int]) -> None:
        self.block, self.streams, self.make, self.settled = block, streams, make, settled
        self.passes: list[_Pass] = []
        self.grams: dict[int, Gram] = {}

    def begin(self) -> None:
        self.passes = [_Pass(self, stream) for stream in self.streams]
        for one in self.passes:
            one.switch()

    def go_on(self, index: int) -> None:
        """From stage ``index``, which was settled."""
        for one in self.passes:
            if one.waits == index:
                one.switch()

    def end(self) -> list[Stream]:
        """What came out. Passes that will not be finished end where they stand, in the thread that they belong to."""
        passes, self.passes = self.passes, []  # and no cycle keeps their streams until Python looks for cycles
        for one in passes:
            if not one.dead:
                one.throw(GreenletExit)
        return [one.behind for one in passes if one.behind is not None]

    def waiting(self) -> list[int]:
        return [one.waits for one in self.passes if one.waits is not None]

    def see(self, here: _Pass, index: int, host: Linear, x: Tensor, halts: bool) -> None:
        """Pass ``here`` shows ``host`` of stage ``index`` its input."""
        if host.name in here.called:
            raise Anomaly(f"{host.name}: called twice in block {self.block.name}; its anatomy must call it once")
        here.called.add(host.name)
        if index in self.settled or index in here.shown:
            return
        here.shown.add(index)
        if index not in self.grams:
            self.grams[index] = self.make(host.name, x.shape[-1])
        add(self.grams[index], x, self.block.rows(here.stream, host.name), host.name)
        here.waits = index
        if halts:
            assert here.parent is not None
            here.parent.switch()


def merged(crews: Sequence[dict[int, Gram]], index: int) -> Gram | None:
    """What all have gathered at stage ``index``, taken from them; None where no stream came there."""
    found = [grams.pop(index) for grams in crews if index in grams]
    for other in found[1:]:
        found[0].merge(other)
    return found[0] if found else None


def together(
    block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle, how: How, side: Lanes
) -> list[Stream]:
    """Every stream once through the block, all of them halting at each stage until it is settled: one forward, and what
    is held is one block's activations. Streams that never come to a stage wait for nobody. With ``how.before`` none
    halts, and all stages are settled behind the last: each on the block as it was, and so is what comes out."""
    settled: set[int] = set()
    crews = [_Crew(block, part, how.make, settled) for part in _parts(streams, stages, how, side)]
    grams = [crew.grams for crew in crews]

    def tap_of(stage: Stage) -> Tap:
        index = next(i for i, one in enumerate(stages) if one is stage)

        def tap(host: Linear, x: Tensor) -> None:
            here = getcurrent()
            assert isinstance(here, _Pass)
            here.crew.see(here, index, host, x, not how.before)

        return tap

    def settle_at(index: int) -> None:
        gram = merged(grams, index)
        if gram is not None:
            settle(stages[index], gram)
        settled.add(index)

    with tapped(stages, tap_of):
        try:
            side.run([crew.begin for crew in crews])
            while not how.before and (waiting := [index for crew in crews for index in crew.waiting()]):
                settle_at(min(waiting))
                side.run([partial(crew.go_on, min(waiting)) for crew in crews])
        finally:
            ended = side.run([crew.end for crew in crews])
    for index in range(len(stages)) if how.before else ():
        settle_at(index)
    return [stream for part in ended for stream in part]


def replayed(
    block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle, how: How, side: Lanes
) -> list[Stream]:
    """For each stage the block's prefix per stream, in order; then the whole block per stream."""
    for_whom: dict[int, tuple[Stream, Gram]] = {}  # by thread

    def tap(host: Linear, x: Tensor) -> None:
        stream, gram = for_whom[get_ident()]
        add(gram, x, block.rows(stream, host.name), host.name)
        raise _Reached  # without pictures a batch may not get there

    def gathered(part: Sequence[Stream], stage: Stage) -> dict[int, Gram]:
        gram = how.make(stage[0].name, stage[0].in_features)
        for stream in part:
            for_whom[get_ident()] = stream, gram
            with suppress(_Reached):
                block(stream)
        return {0: gram} if gram.seen.any() else {}

    for stage in stages:
        with tapped([stage], lambda _: tap):
            found = side.run([partial(gathered, part, stage) for part in _parts(streams, stages, how, side)])
        gram = merged(found, 0)
        if gram is not None:
            settle(stage, gram)
    return side.map(block, streams)


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
    block: Block, streams: Sequence[Stream], stages: Sequence[Stage], settle: Settle, how: How, side: Lanes
) -> list[Stream]:
    """The block over all streams, its stages settled on the way or, with ``how.before``, behind all; replayed where
    what halts has more than ``held`` tokens."""
    if not stages:
        return side.map(block, streams)
    few = sum(stream.kinds.numel() for stream in streams) <= how.held
    return (together if few or how.before else replayed)(block, streams, stages, settle, how, side)


def _parts(streams: Sequence[Stream], stages: Sequence[Stage], how: How, side: Lanes) -> list[Sequence[Stream]]:
    """The streams of each lane."""
    return [streams] if how.rows else side.parts(streams, max(stage[0].in_features for stage in stages))
