"""Attention sinks: a case worked by hand, token by token."""

from __future__ import annotations

import pytest
import torch

from oracle import make
from trimtab import anatomy
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.cache import Sinks

# Rows of 4, 7 and 9 tokens; two sinks and a window of three. Positions that are stored after the prompt, and after each
# of three more tokens.
STORED = [
    ([0, 1, 2, 3], [0, 1, 4, 5, 6], [0, 1, 6, 7, 8]),
    ([0, 1, 2, 3, 4], [0, 1, 5, 6, 7], [0, 1, 7, 8, 9]),
    ([0, 1, 3, 4, 5], [0, 1, 6, 7, 8], [0, 1, 8, 9, 10]),
    ([0, 1, 4, 5, 6], [0, 1, 7, 8, 9], [0, 1, 9, 10, 11]),
]


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_stored_by_hand(side: str) -> None:
    body = anatomy.of(make("llama")[0])
    mask = torch.zeros(3, 9, dtype=torch.long)
    for row, length in enumerate((4, 7, 9)):
        mask[row, slice(9 - length, 9) if side == "left" else slice(0, length)] = 1
    slots = Slots()
    with torch.no_grad():
        prefill(body, {"input_ids": 5 * mask, "attention_mask": mask}, [Sinks(2, 3).policy()], slots)
        for wanted in STORED:
            for slot in slots.layers.values():
                assert slot.valid.shape[1] == 5
                found = [where[valid].tolist() for where, valid in zip(slot.positions, slot.valid, strict=True)]
                assert found == list(wanted)
            step(body, torch.full((3, 1), 7), slots)


def test_a_window_alone_has_no_sinks() -> None:
    valid = torch.ones(1, 6, dtype=torch.bool)
    assert Sinks(0, 2).policy().chosen(valid)[0].nonzero()[:, 0].tolist() == [4, 5]
    assert Sinks(3, 1).policy().chosen(valid)[0].nonzero()[:, 0].tolist() == [0, 1, 2, 5]
    assert Sinks(0, 2).policy().holds(9) == {"kept": 2}


def test_it_counts_valid_entries_by_head() -> None:
    """Two heads whose entries lie in different places among padding."""
    valid = torch.tensor([[[0, 1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 0, 1, 0]]]).bool()
    found = Sinks(1, 2).policy().chosen(valid)
    assert found[0, 0].nonzero()[:, 0].tolist() == [1, 5, 6]
    assert found[0, 1].nonzero()[:, 0].tolist() == [0, 3, 5]


def test_a_text_of_any_length_fits_in_the_same_memory() -> None:
    body, slots, sizes = anatomy.of(make("llama")[0]), Slots(), []
    ids = torch.randint(4, 90, (2, 20))
    with torch.no_grad():
        prefill(body, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, [Sinks(2, 6).policy()], slots)
        for _ in range(60):
            step(body, ids[:, :1], slots)
            sizes.append(slots.nbytes())
    assert set(sizes) == {4 * 2 * 2 * 8 * 8 * 2 * 4}  # layers, rows, heads, entries, channels, keys and values, bytes
    assert slots.length == 80
    assert slots.following.tolist() == [80, 80]


def test_knobs_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(ValueError, match="sinks: got -1"):
        Sinks(-1).policy()
    with pytest.raises(ValueError, match="window: got 0"):
        Sinks(4, 0).policy()
