"""The law of Keep, for every token method and control: what is promised of a policy whatever its score."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sights import batch, sample
from trimtab import anatomy, methods
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill
from trimtab.anatomy.slots import Slots
from trimtab.core.keep import Keep, Merge, Sight, share
from trimtab.core.stats import IMAGE, PADDING, TEXT
from trimtab.tokens import CONTROLS, METHODS

KNOBS = {
    "divprune": {},
    "fastv": {"layer": 2},
    "random_tokens": {"seed": 3},
    "tome": {"layer": 0},
}
KEEPS = (0.1, 0.25, 0.5, 0.75, 0.9)
RAGGED = ([12], [5, 9], [30], [1], [])  # images of the samples of a batch; the last has none

every = pytest.mark.parametrize("name", sorted(METHODS | CONTROLS))
either_side = pytest.mark.parametrize("side", ["left", "right"])


def policy(name: str, keep: float) -> Keep | Merge:
    made: Keep | Merge = methods.make(name, {"keep": keep, **KNOBS[name]}).policy()
    return made


def ragged() -> list[Sight]:
    return [sample(images) for images in RAGGED]


def test_the_laws_see_every_method() -> None:
    assert set(KNOBS) == set(METHODS | CONTROLS)
    assert {name for name, card in methods.cards().items() if card.family == "tokens"} == set(METHODS)


@every
@either_side
@pytest.mark.parametrize("keep", KEEPS)
def test_budget_is_respected_exactly_on_a_ragged_batch(name: str, side: str, keep: float) -> None:
    sight = batch(ragged(), side)
    chosen = policy(name, keep).chosen(sight)
    image = sight.stream.kinds == IMAGE
    for row, images in enumerate(RAGGED):
        n = sum(images)
        expected = max(1, int(n * keep + 0.5)) if n else 0
        assert int((chosen & image)[row].sum()) == expected, f"{n} image tokens"


@every
@either_side
def test_text_is_never_dropped_and_padding_never_kept(name: str, side: str) -> None:
    sight = batch(ragged(), side)
    chosen = policy(name, 0.1).chosen(sight)
    assert bool(chosen[sight.stream.kinds == TEXT].all())
    assert not bool(chosen[sight.stream.kinds == PADDING].any())


@every
@either_side
def test_all_kept_is_the_identity_bit_for_bit(name: str, side: str) -> None:
    sight = batch(ragged(), side)
    assert torch.equal(policy(name, 1.0).chosen(sight), sight.stream.valid)


@every
def test_two_calls_choose_the_same(name: str) -> None:
    sight = batch(ragged())
    assert torch.equal(policy(name, 0.5).chosen(sight), policy(name, 0.5).chosen(sight))


@every
@either_side
@pytest.mark.parametrize("keep", [0.25, 0.5])
def test_neither_padding_nor_neighbours_change_a_choice(name: str, side: str, keep: float) -> None:
    alone = ragged()
    together = batch(alone, side)
    chosen = policy(name, keep).chosen(together)
    for row, one in enumerate(alone):
        mine = chosen[row][together.stream.valid[row]]
        assert torch.equal(mine, policy(name, keep).chosen(one)[0]), f"sample {row}"


@every
def test_what_padding_holds_is_not_looked_at(name: str) -> None:
    sight = batch(ragged())
    padding = ~sight.stream.valid
    poisoned = sight.stream.x.masked_fill(padding[..., None], -777.0)
    changed = replace(
        sight,
        stream=replace(sight.stream, x=poisoned),
        q=sight.q.masked_fill(padding[:, None, :, None], -777.0),
        k=sight.k.masked_fill(padding[:, None, :, None], 777.0),
    )
    assert torch.equal(policy(name, 0.5).chosen(sight), policy(name, 0.5).chosen(changed))


@every
@pytest.mark.parametrize("keep", [0.0, -0.5, 1.01])
def test_a_share_outside_its_range_is_refused(name: str, keep: float) -> None:
    with pytest.raises(Exception, match=rf"{name}\.keep: got .*above 0, at most 1"):
        policy(name, keep)


def test_share_rounds_half_up_and_keeps_one() -> None:
    half, tenth = share(0.5), share(0.1)
    assert [half(n) for n in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    assert [tenth(n) for n in (1, 4, 15, 16, 25)] == [1, 1, 2, 2, 3]
    assert [share(1.0)(n) for n in (1, 7, 576)] == [1, 7, 576]


def test_topk_takes_the_best_and_breaks_ties_by_order() -> None:
    sight = sample([6], text=1)
    scores = torch.tensor([[99.0, 1.0, 5.0, 3.0, 5.0, 5.0, 0.0, 99.0]])
    kept = Keep(score=lambda _: scores, budget=lambda _: 2).chosen(sight)[0].tolist()
    assert kept == [True, False, True, False, True, False, False, True]


def test_gathering_keeps_order_positions_and_sources() -> None:
    stream = batch([sample([7]), sample([3, 4])]).stream
    stream = replace(stream, side={"mark": stream.source * 10})
    index = torch.tensor([[0, 4, 9], [1, 2, 8]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    got = stream.gather(index, valid)
    for row in range(2):
        for column, at in enumerate(index[row].tolist()):
            assert torch.equal(got.x[row, column], stream.x[row, at])
            assert got.positions[row, column] == stream.positions[row, at]
            assert got.source[row, column] == stream.source[row, at]
            assert got.side["mark"][row, column] == stream.source[row, at] * 10
            stays = bool(valid[row, column])
            assert got.kinds[row, column] == (stream.kinds[row, at] if stays else PADDING)
            assert bool(got.valid[row, column]) == (stays and bool(stream.valid[row, at]))


@every
@pytest.mark.parametrize("side", ["left", "right"])
def test_through_the_loop_all_kept_is_the_base_model_bit_for_bit(name: str, side: tiny.Padding) -> None:
    model, inputs = tiny.make("llava", side)
    body = anatomy.of(model)
    base = prefill(body, inputs, slots=(plain := Slots()))
    same = prefill(body, inputs, (policy(name, 1.0),), slots=(slots := Slots()))
    assert torch.equal(base.logits, same.logits)
    assert slots.nbytes() == plain.nbytes()
    assert torch.equal(same.kept[0].before, same.kept[0].after)


@every
@pytest.mark.parametrize("side", ["left", "right"])
def test_through_the_loop_the_bytes_freed_are_true(name: str, side: tiny.Padding) -> None:
    """Layers behind the policy store what it kept and no more; what is dropped has no logits, all else has."""
    model, inputs = tiny.make("llava", side)
    body = anatomy.of(model)
    chosen = policy(name, 0.25)
    out = prefill(body, inputs, (chosen,), slots=(slots := Slots()))
    image = inputs["input_ids"] == tiny.IMAGE_TOKEN
    count = image.sum(1)
    expected = torch.tensor([share(0.25)(n) if n else 0 for n in count.tolist()])
    assert torch.equal(out.kept[0].before - out.kept[0].after, count - expected)
    longest, t = int(out.kept[0].after.max()), inputs["input_ids"].shape[1]
    rows, text = len(count), model.config.text_config
    token = 2 * 4 * text.num_key_value_heads * text.head_dim  # keys and values, float32
    lengths = [t if layer < chosen.at.layer else longest for layer in range(text.num_hidden_layers)]
    assert slots.nbytes() == sum(rows * length * token for length in lengths)
    dropped = out.logits.isnan().all(-1) & inputs["attention_mask"].bool()
    assert torch.equal(dropped.sum(1), count - expected)
    assert not bool((dropped & ~image).any())


@every
def test_through_the_loop_kept_tokens_stay_in_order_at_their_positions(name: str) -> None:
    model, inputs = tiny.make("llava")
    out = prefill(anatomy.of(model), inputs, (policy(name, 0.5),))
    for row, alive in enumerate(inputs["attention_mask"].bool()):
        valid = out.stream.valid[row]
        source, positions = out.stream.source[row][valid], out.stream.positions[row][valid]
        assert bool((source.diff() > 0).all())
        assert bool((positions.diff() > 0).all())
        assert torch.equal(positions, source - int(alive.nonzero()[0]))
