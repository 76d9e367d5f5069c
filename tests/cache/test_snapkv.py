"""SnapKV: its score against explicit attention, the needle and its neighbours, and a step that costs the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import slow_cache
from oracle import make, untouched
from sights import batch, sample
from trimtab import anatomy
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.cache import Sinks, SnapKV
from trimtab.cache.snapkv import observed
from trimtab.core.evict import Evict
from trimtab.core.keep import Sight, Stream
from trimtab.core.stats import TEXT
from trimtab.measure.flops import count

WINDOW, KERNEL = 4, 3


def slow(sight: Sight, row: int, group: int) -> dict[int, float]:
    """Attention by exponentials in float64, one query, head and entry at a time; pooled over the row's own entries."""
    places = sight.stream.valid[row].nonzero()[:, 0].tolist()
    earlier, observing = places[:-WINDOW], places[-WINDOW:]
    q, k = sight.q.double(), sight.k.double()
    each = q.shape[1] // k.shape[1]
    score = dict.fromkeys(earlier, 0.0)
    for head in range(group * each, (group + 1) * each):
        for i in observing:
            seen = [j for j in places if (j <= i if sight.mask is None else sight.mask[row, 0, i, j])]
            power = {j: torch.exp(sight.scaling * q[row, head, i] @ k[row, group, j]).item() for j in seen}
            for j in earlier:
                score[j] += power.get(j, 0.0) / sum(power.values())
    reach = range(-(KERNEL // 2), KERNEL // 2 + 1)
    return {j: sum(score.get(j + away, 0.0) for away in reach) / KERNEL for j in earlier}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("masked", ["by mask", "by order"])
def test_the_score_is_the_pooled_attention_of_the_window_by_key_head(side: str, masked: str) -> None:
    sight = batch([sample([5]), sample([2, 3]), sample([9]), sample([])], side)  # the last has fewer than the window
    sight = sight if masked == "by mask" else replace(sight, mask=None)
    found = observed(sight.stream.valid, sight, WINDOW, KERNEL)
    assert found.shape == (4, 2, sight.stream.valid.shape[1])
    for row, valid in enumerate(sight.stream.valid):
        places = valid.nonzero()[:, 0].tolist()
        for group in range(2):
            for j, wanted in slow(sight, row, group).items():
                assert float(found[row, group, j]) == pytest.approx(wanted, abs=1e-6)
            assert found[row, group, places[-WINDOW:]].isinf().all()


def test_merged_entries_are_observed_with_their_sizes() -> None:
    """An entry that stands for three gets what three equal ones get together."""
    one = sample([6])
    added = torch.zeros(one.mask.shape).masked_fill(~one.mask, torch.finfo(torch.float32).min)
    added[..., 4] += torch.log(torch.tensor(3.0))
    found = observed(one.stream.valid, replace(one, mask=added), WINDOW, 1)
    where = torch.tensor([0, 1, 2, 3, 4, 4, 4, *range(5, one.mask.shape[3])])
    valid = torch.ones(1, len(where), dtype=torch.bool)
    stream = Stream(torch.zeros(1, len(where), 4), where[None], torch.full((1, len(where)), TEXT), valid, where[None])
    thrice = Sight(stream, 2, one.q[:, :, where], one.k[:, :, where], one.mask[:, :, where][..., where], one.scaling)
    wanted = observed(valid, thrice, WINDOW, 1)
    assert torch.allclose(found[..., 4], wanted[..., 4:7].sum(-1), atol=1e-6)
    assert torch.allclose(found[..., :4], wanted[..., :4], atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_in_a_model_the_score_is_the_librarys_own_attention(layer: int, side: tiny.Padding) -> None:
    """transformers' eager weights of the same layer: grouped queries, and a sliding window on the even ones."""
    model, inputs = make("gemma3", side)
    oracle = untouched(model)
    oracle.set_attn_implementation("eager")
    scores: list[torch.Tensor] = []

    def watched(valid: torch.Tensor, sight: Sight | None) -> torch.Tensor:
        scores.append(observed(valid, sight, 3, 1))
        return scores[-1]

    policy = SnapKV(5, 3, 1).policy()
    with torch.no_grad():
        shown = oracle(**inputs, output_attentions=True).attentions[layer]
        prefill(anatomy.of(model), inputs, [Evict(watched, policy.capacity, at=policy.at)], Slots())
    for row, valid in enumerate(inputs["attention_mask"].bool()):
        places = valid.nonzero()[:, 0]
        wanted = shown[row][:, places[-3:]].sum(1).unflatten(0, (2, 2)).sum(1)
        assert torch.allclose(scores[layer][row][:, places[:-3]], wanted[:, places[:-3]], atol=1e-6)


def planted(seed: int, length: int = 60) -> tuple[Sight, int]:
    """One sample whose window looks hard at one entry and at the others by chance."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, heads, length, 8, generator=generator) for heads in (4, 2))
    needle = int(torch.randint(2, length - WINDOW - 2, (), generator=generator))
    k[:, :, needle] = 6.0
    q[:, :, -WINDOW:] += 2.0
    there = torch.ones(1, length, dtype=torch.bool)
    place = torch.arange(length)[None]
    stream = Stream(torch.zeros(1, length, 4), place, torch.full((1, length), TEXT), there, place)
    return Sight(stream, 1, q, k, there.expand(length, -1).tril()[None, None], 0.35), needle


def test_a_needle_stays_with_its_neighbours_and_without_pooling_they_are_lost() -> None:
    """Room for the needle and four more, 100 trials: pooled, its two neighbours on either side always stay too."""
    alone = 0.0
    for seed in range(100):
        sight, needle = planted(seed)
        pooled = SnapKV(WINDOW + 5, WINDOW, 5).policy().chosen(sight.stream.valid, sight)
        assert pooled[..., needle - 2 : needle + 3].all(), f"seed {seed}"
        single = SnapKV(WINDOW + 5, WINDOW, 1).policy().chosen(sight.stream.valid, sight)
        assert single[..., needle].all()
        beside = [needle - 2, needle - 1, needle + 1, needle + 2]
        alone += single[..., beside].float().mean().item() / 100
    assert alone < 0.2, f"{alone:.0%} of the neighbours stay without pooling"


def test_it_keeps_what_its_baseline_loses() -> None:
    """Sinks and a window of as many entries never hold a needle between them."""
    for seed in range(20):
        sight, needle = planted(seed)
        lost = Sinks(2, WINDOW + 3).policy().chosen(sight.stream.valid)
        if 2 <= needle < 60 - WINDOW - 3:
            assert not lost[..., needle].any()
            assert SnapKV(WINDOW + 5, WINDOW, 5).policy().chosen(sight.stream.valid, sight)[..., needle].all()


def test_a_step_costs_the_same_whatever_the_length_of_the_prompt() -> None:
    body = anatomy.of(make("llama")[0])

    def operations(length: int, *policies: Evict) -> int:
        slots, ids = Slots(), torch.randint(4, 90, (2, length))
        with torch.no_grad():
            prefill(body, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, policies, slots)
            return count(lambda: step(body, ids[:, :1], slots))

    kept = [operations(length, SnapKV(16, 4, 3).policy()) for length in (16, 40, 80)]
    assert kept[0] == kept[1] == kept[2]
    assert operations(16) < operations(40) < operations(80)


def test_heads_choose_for_themselves() -> None:
    """And masks give each query head what its key head kept: the slow reference says so, here only that they differ."""
    model, inputs = make("llama")
    with torch.no_grad():
        prefill(anatomy.of(model), inputs, [SnapKV(6, 2, 1).policy()], slots := Slots())
    positions = [slot.positions for slot in slots.layers.values()]
    assert all(where.shape == (4, 2, 6) for where in positions)
    assert any(not torch.equal(where[:, 0], where[:, 1]) for where in positions)


def test_knobs_that_cannot_be_right_are_refused() -> None:
    for knobs, said in (
        ({"capacity": 32}, "capacity: got 32; accepted: more than the window of 32 entries"),
        ({"capacity": 99, "window": 0}, "window: got 0"),
        ({"capacity": 99, "kernel": 4}, "kernel: got 4; accepted: an odd number"),
        ({"capacity": 99, "kernel": -1}, "kernel: got -1"),
    ):
        with pytest.raises(ValueError, match=said):
            SnapKV(**knobs).policy()
    with pytest.raises(ValueError, match="no attention over these entries"):
        SnapKV(9, 4).policy().chosen(torch.ones(1, 12, dtype=torch.bool))


def test_the_slow_reference_itself_keeps_the_needle() -> None:
    """So that the law compares with something that does what the paper says."""
    sight, needle = planted(3)
    each = [(sight.q[0, h] @ sight.k[0, h // 2].T * 0.35).masked_fill(~sight.mask[0, 0], -1e9) for h in range(4)]
    lane = slow_cache.Lane(plain=list(range(60)))
    slow_cache.snap(WINDOW + 5, WINDOW, 5)(lane, sight.k[0, 0], sight.k[0, 0], torch.stack(each[:2]).softmax(-1))
    assert lane.plain == [*range(needle - 2, needle + 3), 56, 57, 58, 59]
