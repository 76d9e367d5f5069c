"""What a stream carries beside its words: places on a grid, blocks that see one another, features of several depths.

A tiny Llama is the decoder; each is compared with the same computation written out by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oracle import close
from trimtab import anatomy as anatomies
from trimtab.anatomy import masks, tiny
from trimtab.anatomy.base import Anatomy
from trimtab.anatomy.decoder import BLOCK, DEEP, GRID
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.core.keep import Stream


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def made() -> tuple[Anatomy, Stream]:
    model, batch = tiny.make("llama")
    anatomy = anatomies.of(model)
    return anatomy, anatomy.embed(batch)


def through(anatomy: Anatomy, stream: Stream) -> Tensor:
    for index in anatomy.layers():
        stream = anatomy.blocks()[index](stream)
    return stream.x[stream.valid]


def beside(stream: Stream, **side: Tensor) -> Stream:
    return replace(stream, side=side)


@pytest.mark.parametrize("window", [None, 3])
def test_a_block_is_seen_whole_by_its_own_and_by_what_follows(window: int | None) -> None:
    where = torch.arange(7).expand(2, 7)
    valid = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1]]).bool()
    block = torch.tensor([[-1, 0, 0, 0, -1, 1, 1], [-1, 2, 2, 2, 2, -1, -1]])
    found = masks.with_blocks(where, where, valid, window, block)
    for row in range(2):
        for i in range(7):
            for key in range(7):
                near = key <= i and (window is None or i - key < window)
                same = block[row, i] == block[row, key] and int(block[row, key]) >= 0
                assert bool(found[row, 0, i, key]) == (((near or same) and bool(valid[row, key])) or key == i)


def test_the_decoder_lets_blocks_see_ahead_and_nothing_else() -> None:
    """With every token in one block the first token's state depends on the last; with none it does not."""
    anatomy, stream = made()
    alone = torch.full_like(stream.positions, -1)
    close(through(anatomy, beside(stream, **{BLOCK: alone})), through(anatomy, stream))
    row = stream.valid.sum(1).argmax()
    moved = stream.x.clone()
    moved[row, -1] += 1
    for block, depends in ((alone, False), (torch.zeros_like(alone), True)):
        states = [anatomy.blocks()[0](replace(beside(stream, **{BLOCK: block}), x=x)).x[row] for x in (stream.x, moved)]
        assert (not torch.equal(states[0][-2], states[1][-2])) == depends


def test_features_of_a_depth_are_added_behind_their_layer() -> None:
    anatomy, stream = made()
    deep = torch.randn_like(stream.x)
    first, *others = (anatomy.blocks()[index] for index in anatomy.layers())
    plain = first(stream)
    wanted = replace(plain, x=plain.x + deep)
    for block in others:
        wanted = block(wanted)
    close(through(anatomy, beside(stream, **{DEEP.format(0): deep})), wanted.x[stream.valid])


def test_side_tensors_of_any_shape_go_with_their_tokens() -> None:
    _, stream = made()
    b, t = stream.positions.shape
    grid, deep = torch.randint(0, 9, (b, t, 3)), torch.randn(b, t, 5)
    index = torch.stack([torch.randperm(t)[:4].sort().values for _ in range(b)])
    got = beside(stream, grid=grid, deep=deep).gather(index, torch.ones_like(index, dtype=torch.bool))
    for row in range(b):
        assert torch.equal(got.side["grid"][row], grid[row, index[row]])
        assert torch.equal(got.side["deep"][row], deep[row, index[row]])
        assert torch.equal(got.x[row], stream.x[row, index[row]])


class OnAGrid:
    """The anatomy with every token's place ``times`` its position, in all three of time, row and column."""

    def __init__(self, anatomy: Anatomy, times: int) -> None:
        self.anatomy, self.times = anatomy, times
        rotary = anatomy.decoder.rotary  # type: ignore[attr-defined]
        flat = replace(anatomy.decoder, rotary=lambda where, dtype, kind: rotary(where[..., 0], dtype, kind))  # type: ignore[attr-defined]
        self.blocks_there = flat.blocks()

    def __getattr__(self, name: str) -> object:
        return getattr(self.anatomy, name)

    def blocks(self) -> object:
        return self.blocks_there

    def embed(self, batch: dict[str, Tensor]) -> Stream:
        stream = self.anatomy.embed(batch)
        return beside(stream, **{GRID: (self.times * stream.positions)[..., None].expand(-1, -1, 3)})


def test_words_that_follow_go_on_behind_the_furthest_place() -> None:
    """Rotary angles see differences only: on a grid that is the positions all is as without one; on one of twice the
    positions the next word is one place behind the furthest, not twice its position."""
    model, batch = tiny.make("llama")
    anatomy, more = anatomies.of(model), torch.randint(3, 90, (4, 2))
    plain, slots = Slots(), Slots()
    prefill(anatomy, batch, slots=plain)
    wanted = step(anatomy, more, plain).logits
    prefill(OnAGrid(anatomy, 1), batch, slots=slots)  # type: ignore[arg-type]
    close(step(OnAGrid(anatomy, 1), more, slots).logits, wanted)  # type: ignore[arg-type]
    assert slots.shift is not None
    assert slots.shift.tolist() == [0, 0, 0, 0]
    twice = Slots()
    prefill(OnAGrid(anatomy, 2), batch, slots=twice)  # type: ignore[arg-type]
    last = batch["attention_mask"].sum(1) - 1
    assert twice.shift is not None
    assert twice.shift.tolist() == last.tolist(), "furthest 2 (n - 1), position n - 1"
