"""Traps that were measured in the library, and the parts that keep us out of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from oracle import close, library, make, untouched
from trimtab import anatomy as anatomies
from trimtab.anatomy import masks
from trimtab.anatomy.attention import capped
from trimtab.anatomy.loop import prefill
from trimtab.anatomy.recent import Recent
from trimtab.anatomy.slots import Slots


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_positions_with_gaps_are_no_packed_sequences() -> None:
    """Without a mask the library takes a gap for the start of another sequence; our loop always says who sees whom."""
    model, batch = make("llama")
    ids = batch["input_ids"][1:2]
    where = torch.arange(ids.shape[1]) + 7 * (torch.arange(ids.shape[1]) > 4)
    given = {"input_ids": ids, "position_ids": where[None]}
    causal = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    wanted = model(**given, attention_mask=causal).logits
    fooled = model(**given, use_cache=False).logits
    assert float((fooled - wanted).abs().max()) > 0.1 * float(wanted.abs().max())
    close(prefill(anatomies.of(model), given).logits, wanted)


def test_an_attention_function_without_its_mask_function_ignores_padding_and_ours_has_one() -> None:
    model, batch = make("llama")
    valid = batch["attention_mask"].bool()
    wanted = library("llama", model, batch)
    lost = untouched(model)
    AttentionInterface.register("lost", sdpa_attention_forward)
    lost.set_attn_implementation("lost")
    assert not torch.allclose(library("llama", lost, batch)[valid], wanted[valid], rtol=0.1)
    anatomies.of(model)
    assert model.config._attn_implementation == "trimtab"
    close(library("llama", model, batch)[valid], wanted[valid])


def test_importing_registers_nothing() -> None:
    code = (
        "import trimtab.anatomy.attention as a, trimtab.anatomy.trimmed\n"
        "from transformers import AttentionInterface\n"
        "from transformers.masking_utils import AttentionMaskInterface\n"
        "assert a.NAME not in AttentionInterface() and a.NAME not in AttentionMaskInterface()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_configuration_that_is_saved_names_no_attention_of_ours() -> None:
    model, _ = make("llava")
    anatomies.of(model)
    assert "trimtab" not in model.config.to_json_string(use_diff=False)


def test_slots_count_what_went_by_and_a_library_cache_what_it_stores() -> None:
    cache, slots = DynamicCache(), Slots()
    k = torch.randn(1, 2, 3, 4)
    cache.update(k, k, 0)
    where, valid = torch.tensor([[0, 4, 9]]), torch.ones(1, 3, dtype=torch.bool)
    slots.extend(0, where, valid)
    slots.update(k, k, 0)
    slots.advance(torch.arange(10)[None], torch.ones(1, 10, dtype=torch.bool))
    assert cache.get_seq_length() == 3
    assert slots.get_seq_length() == 10
    assert slots.following.tolist() == [10]
    assert slots.nbytes() == 2 * k.nbytes


def test_positions_of_layers_that_hold_the_same_tokens_are_stored_once() -> None:
    slots, where, valid = Slots(), torch.arange(4)[None], torch.ones(1, 4, dtype=torch.bool)
    for layer in range(3):
        slots.extend(layer, where, valid)
    more, true = torch.tensor([[4]]), torch.ones(1, 1, dtype=torch.bool)
    grown = [slots.extend(layer, more, true) for layer in range(3)]
    assert all(p is grown[0][0] and v is grown[0][1] for p, v in grown)
    assert grown[0][0].tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("padding", ["left", "right"])
def test_positions_are_counted_as_generate_counts_them(padding: str) -> None:
    model, batch = make("llava", padding)
    counted = batch.pop("position_ids")
    stream = anatomies.of(model).embed(batch)
    assert torch.equal(stream.positions, counted)
    assert torch.equal(model._prepare_position_ids_for_generation(batch["input_ids"], batch), counted)


@pytest.mark.parametrize("window", [None, 1, 3])
def test_causal_masks_element_by_element(window: int | None) -> None:
    where = torch.tensor([[0, 0, 0, 1, 5, 6, 7], [2, 3, 9, 10, 0, 11, 12]])
    valid = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 1, 1]]).bool()
    for queries in (7, 2, 1):
        found = masks.causal(where[:, -queries:], where, valid, window)
        assert found.shape == (2, 1, queries, 7)
        for row in range(2):
            for i in range(queries):
                at = 7 - queries + i
                for key in range(7):
                    gap = int(where[row, at] - where[row, key])
                    near = gap >= 0 and (window is None or gap < window)
                    assert bool(found[row, 0, i, key]) == ((near and bool(valid[row, key])) or key == at)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("bounded", [True, False])
def test_masks_with_blocks_element_by_element(window: int | None, bounded: bool) -> None:
    """The second block is longer than the window; positions have gaps, as after a token policy."""
    where = torch.tensor([[0, 0, 1, 2, 3, 5, 6, 7, 9, 10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    valid = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]]).bool()
    block = torch.tensor([[-1, -1, 0, 0, -1, 1, 1, 1, 1, -1], [0, 0, 0, 0, 0, -1, -1, 1, 1, 1]])
    found = masks.with_blocks(where, where, valid, window, block, bounded)[:, 0]
    for row in range(2):
        for i in range(10):
            for key in range(10):
                gap = int(where[row, i] - where[row, key])
                near = window is None or gap < window
                same = int(block[row, i]) == int(block[row, key]) >= 0
                rule = (gap >= 0 or same) and near if bounded else (gap >= 0 and near) or same
                assert bool(found[row, i, key]) == ((rule and bool(valid[row, key])) or key == i)


def test_where_the_states_of_padding_are_read_it_sees_what_is_there_and_not_itself() -> None:
    valid = torch.tensor([[1, 1, 0], [0, 1, 1]]).bool()
    found = masks.filled(valid)
    assert found is not None
    assert found.expand(2, 1, 3, 3)[:, 0].tolist() == [[[True, True, False]] * 3, [[False, True, True]] * 3]
    assert masks.filled(torch.ones(2, 3, dtype=torch.bool)) is None


@pytest.mark.parametrize("queries", [5, 2, 1])
@pytest.mark.parametrize("masked", [True, False])
def test_capped_attention_element_by_element(queries: int, masked: bool) -> None:
    q, k, v = torch.randn(2, 4, queries, 6), torch.randn(2, 2, 5, 6), torch.randn(2, 2, 5, 3)
    mask = torch.rand(2, 1, queries, 5) > 0.4
    mask[..., 0] = True
    mask[0, 0, 0] = not masked or queries == 1  # a query that sees nothing
    found = capped(q, k, v, mask if masked else None, 0.4, 1.5)
    assert bool(found.isfinite().all())
    for b in range(2):
        for head in range(4):
            for i in range(queries):
                sees = [bool(mask[b, 0, i, j]) if masked else j <= 5 - queries + i for j in range(5)]
                if not any(sees):
                    continue
                score = [1.5 * torch.tanh(q[b, head, i] @ k[b, head // 2, j] * 0.4 / 1.5) for j in range(5)]
                share = torch.stack(score).masked_fill(~torch.tensor(sees), -torch.inf).softmax(0)
                close(found[b, i, head], share @ v[b, head // 2])


def test_masks_by_key_head_element_by_element_and_for_their_query_heads() -> None:
    where = torch.tensor([[[0, 1, 5, 6], [2, 3, 4, 6]], [[0, 7, 8, 9], [1, 2, 0, 9]]])
    valid = torch.tensor([[[1, 1, 1, 1], [1, 1, 1, 1]], [[0, 1, 1, 1], [1, 1, 0, 1]]]).bool()
    asks = torch.tensor([[6], [9]])
    for window in (None, 4):
        found = masks.shown(asks, where, valid, window, 6)
        assert found.shape == (2, 6, 1, 4)
        for row, head, key in itertools.product(range(2), range(6), range(4)):
            group = head // 3
            near = window is None or int(asks[row, 0] - where[row, group, key]) < window
            assert bool(found[row, head, 0, key]) == ((near and bool(valid[row, group, key])) or key == 3)
    assert masks.shown(asks[:1], where[:1], valid[:1], None, 6) is None


def test_no_mask_only_where_it_would_say_nothing() -> None:
    """Without one SDPA lets a query see the keys up to its own place, and a single query all keys."""
    where, there = torch.arange(5).expand(2, 5), torch.ones(2, 5, dtype=torch.bool)
    padded = there.clone()
    padded[1, 0] = False
    assert masks.needed(where, where, there, None) is None
    assert masks.needed(where, where, there, 5) is None
    assert masks.needed(where + 3 * torch.arange(5), where + 3 * torch.arange(5), there, None) is None, (
        "gaps are no matter"
    )
    assert masks.needed(where[:, -1:], where, there, None) is None
    for queries, valid, window in (
        (5, padded, None),
        (1, padded, None),
        (5, there, 4),
        (1, there, 4),
        (2, there, None),
    ):
        found = masks.needed(where[:, -queries:], where, valid, window)
        assert found is not None
        assert torch.equal(found, masks.causal(where[:, -queries:], where, valid, window))
    unordered = where.flip(1)
    assert masks.needed(unordered, unordered, there, None) is not None
    earlier = masks.needed(where - 2, where, there, None)
    assert earlier is not None, "queries that stand before the keys of their own places"


def test_the_mask_of_encoders_and_the_additive_form() -> None:
    valid = torch.tensor([[1, 1, 0], [0, 1, 1]]).bool()
    found = masks.everywhere(valid)[:, 0]
    assert found[0].tolist() == [[True, True, False], [True, True, False], [True, True, True]]
    assert found[1].tolist() == [[True, True, True], [False, True, True], [False, True, True]]
    scores = torch.randn(2, 1, 3, 3)
    added = (scores + masks.additive(found[:, None], torch.float32)).softmax(-1)
    close(added, scores.masked_fill(~found[:, None], -torch.inf).softmax(-1))


def test_a_padding_query_sees_something_so_that_no_kernel_divides_nothing() -> None:
    valid = torch.tensor([[0, 0, 1]]).bool()
    mask = masks.causal(torch.zeros(1, 3).long(), torch.zeros(1, 3).long(), valid, None)
    q = torch.randn(1, 1, 3, 4)
    assert bool(mask.any(-1).all())
    assert bool(F.scaled_dot_product_attention(q, q, q, attn_mask=mask).isfinite().all())


def test_recent_results_are_found_by_identity_and_no_others() -> None:
    calls: list[object] = []

    def double(x: torch.Tensor, factor: int) -> torch.Tensor:
        calls.append(x)
        return factor * x

    recent, x = Recent(size=2), torch.ones(2)
    first = recent(double, x, 2)
    assert recent(double, x, 2) is first
    assert recent(double, x, 3).tolist() == [3.0, 3.0]
    assert recent(double, x.clone(), 2) is not first
    assert len(calls) == 3
    assert recent(double, x, 2) is not first  # pushed out by the two after it
