"""Entries of a layer are moved as lists of them are: dropped, coded in groups, forgotten, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from slow_cache import Lane
from trimtab.core.evict import Evict
from trimtab.core.keep import Place
from trimtab.core.slot import Slot, along

GROUP, RESIDUAL, CHANNELS = 3, 2, 2


def call(function: Callable[..., Any], *given: Any) -> Any:
    return function(*given)


@dataclass(frozen=True)
class Boxes:
    """Groups as they are, each number doubled to show that it came through here."""

    k: Tensor  # (b, g, groups, group_size, d)
    v: Tensor
    group_size: int = GROUP

    @classmethod
    def of(cls, k: Tensor, v: Tensor) -> Boxes:
        return cls(2 * k.unflatten(2, (-1, GROUP)), 2 * v.unflatten(2, (-1, GROUP)))

    @property
    def length(self) -> int:
        return self.k.shape[2] * GROUP

    @property
    def nbytes(self) -> int:
        return self.k.nbytes + self.v.nbytes

    def read(self) -> tuple[Tensor, Tensor]:
        return self.k.flatten(2, 3), self.v.flatten(2, 3)

    def take(self, groups: Tensor) -> Boxes:
        return replace(self, k=along(self.k, groups), v=along(self.v, groups))

    def join(self, other: Boxes) -> Boxes:
        return Boxes(torch.cat([self.k, other.k], 2), torch.cat([self.v, other.v], 2))


class Lists:
    """What a slot should hold: for each row and key head the numbers of its tokens. A token's key is its number + 0.5,
    its value the negative of its number, its position ten times its number."""

    def __init__(self, valid: Tensor, heads: int) -> None:
        self.lanes = [[Lane(plain=row.nonzero()[:, 0].tolist()) for _ in range(heads)] for row in valid]

    def append(self, number: int, valid: Tensor) -> None:
        for row, there in zip(self.lanes, valid.tolist(), strict=True):
            for lane in row:
                lane.plain += [number] if there else []

    def keep(self, stays: Callable[[int, int, int], bool]) -> None:
        for b, row in enumerate(self.lanes):
            for g, lane in enumerate(row):
                lane.only({i for i in lane.stored() if stays(b, g, i)})

    def fold(self) -> None:
        for lane in (lane for row in self.lanes for lane in row):
            while len(lane.plain) >= RESIDUAL + GROUP:
                lane.groups.append(lane.plain[:GROUP])
                lane.plain = lane.plain[GROUP:]

    def check(self, slot: Slot) -> None:
        k, v = slot.read()
        heads = k.shape[1]
        valid = slot.valid if slot.valid.ndim == 3 else slot.valid[:, None].expand(-1, heads, -1)
        positions = along(slot.positions, torch.arange(valid.shape[-1]).expand(valid.shape))
        sizes = None if slot.size is None else along(slot.size, torch.arange(valid.shape[-1]).expand(valid.shape))
        for b, row in enumerate(self.lanes):
            for g, lane in enumerate(row):
                here, coded = valid[b, g], [i for group in lane.groups for i in group]
                assert k[b, g, here, 0].tolist() == [2 * i + 1.0 for i in coded] + [i + 0.5 for i in lane.plain]
                assert v[b, g, here, 1].tolist() == [-2.0 * i for i in coded] + [-1.0 * i for i in lane.plain]
                assert positions[b, g, here].tolist() == [10 * i for i in lane.stored()]
                assert int(valid[b, g, : slot.grouped].sum()) == len(coded)
                if sizes is not None:
                    assert sizes[b, g, here].tolist() == [i + 1.0 for i in lane.stored()]
        rows = [lane for row in self.lanes for lane in row]
        assert slot.grouped == GROUP * max(len(lane.groups) for lane in rows)


def tokens(numbers: list[int], rows: int, heads: int) -> tuple[Tensor, Tensor]:
    k = torch.tensor(numbers)[None, None, :, None].expand(rows, heads, -1, CHANNELS)
    return k + 0.5, -k.float()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("own", [False, True], ids=["together", "each head"])
def test_a_slot_is_moved_as_lists_are(seed: int, own: bool) -> None:
    """Any order of new tokens, drops and codes, on rows padded anywhere; with sizes on half of the seeds."""
    generator = torch.Generator().manual_seed(seed)
    rows, heads, prompt = 3, 2, 11

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    numbers = torch.arange(prompt)
    valid = chance(rows, prompt) < 0.8
    valid[:, -1] = True
    sizes = numbers.expand(rows, -1) + 1.0 if seed % 2 else None
    slot = Slot(numbers.expand(rows, -1) * 10, valid, *tokens(numbers.tolist(), rows, heads), size=sizes)
    lists = Lists(valid, heads)
    for number in range(prompt, prompt + 40):
        new = chance(rows) < 0.9
        slot.append(*tokens([number], rows, heads))
        one = torch.full((rows, 1), number)
        if slot.valid.ndim == 3:
            one, new_valid = one[:, None].expand(-1, heads, -1), new[:, None, None].expand(-1, heads, 1)
        else:
            new_valid = new[:, None]
        slot.positions, slot.valid = torch.cat([slot.positions, 10 * one], -1), torch.cat([slot.valid, new_valid], -1)
        slot.size = None if slot.size is None else torch.cat([slot.size, one + 1.0], -1)
        lists.append(number, new)
        if chance() < 0.4:
            fate = chance(rows, heads if own else 1, number + 1) < 0.85
            fate[..., -2:] = True
            held = slot.positions // 10
            if own:
                held = along(held, torch.arange(slot.valid.shape[-1]).expand(rows, heads, -1))
                stay = fate.gather(2, held) & along(slot.valid, torch.arange(held.shape[-1]).expand(held.shape))
            else:
                stay = fate[:, 0].gather(1, held) & slot.valid
            slot.keep(stay, call)
            lists.keep(lambda b, g, i, fate=fate: bool(fate[b, g if own else 0, i]))
        if chance() < 0.6:
            slot.fold(Boxes.of, GROUP, RESIDUAL, call)
            lists.fold()
        lists.check(slot)


def test_after_a_drop_only_the_fullest_row_is_not_padded_and_a_group_that_died_is_gone() -> None:
    valid = torch.ones(2, 14, dtype=torch.bool)
    valid[1, :6] = False
    slot = Slot(torch.arange(14).expand(2, -1), valid, *tokens(list(range(14)), 2, 1))
    slot.fold(Boxes.of, GROUP, RESIDUAL, call)
    assert slot.grouped == 4 * GROUP
    assert slot.k.shape[2] == 2
    assert slot.valid[:, : slot.grouped].sum(1).tolist() == [12, 6]
    stay = slot.valid & (slot.positions >= 8)
    slot.keep(stay, call)
    assert slot.grouped == 2 * GROUP  # 6 to 8 and 9 to 11 in the first row, 6 to 8 and 9 to 11 in the second
    assert slot.valid[:, : slot.grouped].sum(1).tolist() == [4, 4]
    slot.keep(slot.valid & (slot.positions >= 13), call)
    assert slot.older is None
    assert slot.valid.tolist() == [[True], [True]]
    assert slot.positions.tolist() == [[13], [13]]


def test_nothing_is_read_before_there_is_something() -> None:
    with pytest.raises(ValueError, match="no keys and values yet"):
        Slot(torch.zeros(1, 1).long(), torch.ones(1, 1).bool()).read()


def test_layers_that_hold_the_same_tokens_share_what_a_policy_works_out() -> None:
    """A score that looks at nothing but validity is asked once, and positions stay one tensor."""
    from trimtab.anatomy.recent import Recent

    asked: list[Tensor] = []

    def newest(valid: Tensor, sight: object) -> Tensor:
        asked.append(valid)
        return torch.arange(valid.shape[-1]).expand(valid.shape).float()

    policy = Evict(newest, 2, at=Place(axis="cache", when="step"))
    where, valid, once = torch.arange(5).expand(2, 5), torch.ones(2, 5, dtype=torch.bool), Recent(16)
    layers = [Slot(where, valid, *tokens(list(range(5)), 2, 1)) for _ in range(3)]
    for slot in layers:
        policy.settle(slot, None, once)
        assert slot.positions.tolist() == [[3, 4], [3, 4]]
    assert len(asked) == 1
    assert all(slot.positions is layers[0].positions and slot.valid is layers[0].valid for slot in layers)
