"""The law of cache policies: what is promised of each whatever it chooses, through the loop of every family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import slow_cache
from oracle import DECODERS, Batch, close, make, random_drop, untouched
from slow_cache import Slow
from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.trimmed import Trimmed
from trimtab.cache import METHODS
from trimtab.core.errors import Refused
from trimtab.core.evict import CachePolicy
from trimtab.core.slot import Slot

KNOBS = {
    "kivi": {"bits": 4, "group_size": 4, "residual": 3},
    "sinks": {"sinks": 2, "window": 3},
    "snapkv": {"capacity": 8, "window": 3, "kernel": 3},
}
WHOLE = {"kivi": {"residual": 999}, "sinks": {"window": 999}, "snapkv": {"capacity": 999}}  # nothing has to go
TIGHT = {("snapkv", "mistral"): {"capacity": 4, "window": 2, "kernel": 1}}  # or all that a window shows is kept
SLOW = {"kivi": slow_cache.coded, "sinks": slow_cache.ends, "snapkv": slow_cache.snap}
MODELS = ("gemma3", "llama", "llava", "mistral", "qwen2")
WINDOWS = ("gemma3", "mistral", "qwen2")
STEPS = 9  # more than a window of the models, and several groups

every = pytest.mark.parametrize("name", sorted(METHODS))
either_side = pytest.mark.parametrize("side", ["left", "right"])
families = pytest.mark.parametrize("model", sorted(set(DECODERS) - {"builtin"}))
several = pytest.mark.parametrize("model", MODELS)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def policy(name: str, knobs: dict[str, int] | None = None) -> CachePolicy:
    made: CachePolicy = methods.make(name, KNOBS[name] if knobs is None else knobs).policy()
    return made


def exact(model: str, side: str = "left") -> tuple[Any, Batch]:
    """A tiny model in double precision, where no rounding moves a code or a choice."""
    made, batch = make(model, side)
    return made.double(), {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}


def later(rows: int, steps: int = STEPS) -> Tensor:
    return torch.randint(4, 90, (rows, steps), generator=torch.Generator().manual_seed(1))


def run(model: Any, batch: Batch, policies: Sequence[Any], said: Tensor) -> tuple[Tensor, Tensor, Slots]:
    """Logits of the prompt, of what is said after it token by token, and the slots."""
    body, slots = anatomies.of(model), Slots()
    first = prefill(body, batch, policies, slots).logits
    return first, torch.cat([step(body, said[:, at : at + 1], slots).logits for at in range(said.shape[1])], 1), slots


def counted(slot: Slot) -> list[list[int]]:
    """Valid entries of each row, by key head where they differ."""
    found = slot.valid.sum(-1)
    return (found if found.ndim == 2 else found[:, None]).tolist()


def test_the_laws_see_every_method() -> None:
    assert set(KNOBS) == set(WHOLE) == set(SLOW) == set(METHODS)
    assert {name for name, card in methods.cards().items() if card.family == "cache"} == set(METHODS)


@every
@families
@either_side
def test_the_budget_is_kept_exactly_by_every_row_layer_and_head(name: str, model: str, side: str) -> None:
    made, batch = make(model, side)
    slots, chosen = Slots(), policy(name)
    prefill(anatomies.of(made), batch, [chosen], slots)
    for slot in slots.layers.values():
        for n, heads in zip(batch["attention_mask"].sum(1).tolist(), counted(slot), strict=True):
            assert set(heads) == {chosen.holds(n)["kept"]}, f"{n} entries"
        assert slot.k.shape[2] == slot.v.shape[2] == slot.valid.shape[-1] - slot.grouped
        codes = slot.valid[..., : slot.grouped].sum(-1).tolist()
        assert codes == [chosen.holds(n).get("coded", 0) for n in batch["attention_mask"].sum(1).tolist()] or (
            not slot.grouped
        )


@every
@pytest.mark.parametrize("model", ["llama", "llava"])
@either_side
def test_the_budget_holds_after_every_step(name: str, model: str, side: str) -> None:
    made, batch = make(model, side)
    body, slots, chosen = anatomies.of(made), Slots(), policy(name)
    prefill(body, batch, [chosen], slots)
    lengths = batch["attention_mask"].sum(1).tolist()
    for number in range(1, STEPS + 1):
        step(body, later(len(lengths), 1), slots)
        for slot in slots.layers.values():
            for n, heads in zip(lengths, counted(slot), strict=True):
                then = n + number if chosen.at.when == "step" else n
                assert set(heads) == {chosen.holds(then)["kept"] + n + number - then}


@every
@several
@either_side
def test_with_room_for_all_no_bit_changes(name: str, model: str, side: str) -> None:
    made, batch = make(model, side)
    said = later(len(batch["input_ids"]))
    plain, same = run(made, batch, [], said), run(made, batch, [policy(name, WHOLE[name])], said)
    assert torch.equal(plain[0], same[0])
    if name == "kivi" and model in WINDOWS:  # what is to be coded together is not freed when a window has passed it
        close(same[1], plain[1])
        return
    assert torch.equal(plain[1], same[1])
    assert plain[2].nbytes() == same[2].nbytes()


@every
@several
@either_side
def test_the_prompt_itself_is_read_as_without_it(name: str, model: str, side: str) -> None:
    made, batch = make(model, side)
    body = anatomies.of(made)
    wanted = prefill(body, batch).logits
    assert torch.equal(prefill(body, batch, [policy(name)], Slots()).logits, wanted)
    assert torch.equal(prefill(body, batch, [policy(name)]).logits, wanted)  # and without a cache nothing happens


@every
@several
@either_side
def test_what_is_said_then_is_the_slow_reference(name: str, model: str, side: str) -> None:
    """Grouped queries in all of them, sliding windows in gemma3, mistral and qwen2, pictures in llava."""
    made, batch = exact(model, side)
    said, valid = later(len(batch["input_ids"])), batch["attention_mask"].bool()
    knobs = TIGHT.get((name, model), KNOBS[name])
    slow = Slow(made, batch, [SLOW[name](**knobs)])
    wanted = torch.cat([slow.step(said[:, at : at + 1]) for at in range(said.shape[1])], 1)
    free = run(untouched(made), batch, [], said)[1]
    first, found, _ = run(made, batch, [policy(name, knobs)], said)
    close(first[valid], slow.logits[valid])
    close(found, wanted)
    assert float((free - wanted).abs().max()) > 1e-3 * float(wanted.abs().max()), "the policy changes nothing here"


PAIRS = [("snapkv", "kivi"), ("snapkv", "sinks"), ("sinks", "kivi"), ("kivi", "snapkv", "sinks")]


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
@pytest.mark.parametrize("model", ["llama", "gemma3"])
@either_side
def test_together_they_choose_from_the_prompt_then_drop_then_code(
    names: tuple[str, ...], model: str, side: str
) -> None:
    made, batch = exact(model, side)
    said = later(len(batch["input_ids"]), 2 * STEPS)
    order = [name for name in ("snapkv", "sinks", "kivi") if name in names]
    slow = Slow(made, batch, [SLOW[name](**KNOBS[name]) for name in order])
    wanted = torch.cat([slow.step(said[:, at : at + 1]) for at in range(said.shape[1])], 1)
    close(run(made, batch, [policy(name) for name in names], said)[1], wanted)


@every
@pytest.mark.parametrize("layer", [0, 2])
@either_side
def test_behind_a_token_policy_they_act_on_what_it_left(name: str, layer: int, side: str) -> None:
    made, batch = exact("llama", side)
    drop = random_drop(batch, layer, share=0.2)
    said = later(len(batch["input_ids"]))
    slow = Slow(made, batch, [SLOW[name](**KNOBS[name])], [drop])
    wanted = torch.cat([slow.step(said[:, at : at + 1]) for at in range(said.shape[1])], 1)
    close(run(made, batch, [drop, policy(name)], said)[1], wanted)
    close(run(made, batch, [policy(name), drop], said)[1], wanted)


@every
@pytest.mark.parametrize("model", ["llama", "mistral"])
@either_side
def test_a_row_in_a_batch_says_what_it_says_alone(name: str, model: str, side: str) -> None:
    made, batch = exact(model, side)
    said = later(len(batch["input_ids"]), 2 * STEPS)
    together = run(made, batch, [policy(name)], said)[1]
    for row, valid in enumerate(batch["attention_mask"].bool()):
        alone = {key: value[row : row + 1][:, valid] for key, value in batch.items()}
        close(run(made, alone, [policy(name)], said[row : row + 1])[1], together[row : row + 1])


@every
@several
def test_generating_is_the_slow_reference_token_for_token(name: str, model: str) -> None:
    made, batch = exact(model)
    slow = Slow(made, batch, [SLOW[name](**KNOBS[name])])
    wanted = slow_cache.greedy(slow, batch, 8, tiny.END, tiny.PAD)
    other = Trimmed(anatomies.of(made), [policy(name)])
    assert other.cached
    assert torch.equal(other.generate(**batch, max_new_tokens=8, do_sample=False), wanted)


def expected(name: str, slot: Slot, lengths: list[int], size: int) -> int:
    """Bytes of a layer by hand: float32, 2 key heads of 8 channels, and what else the method has to store."""
    heads, channels = 2, 8
    rows, held = len(lengths), [policy(name).holds(n) for n in lengths]
    if name == "snapkv":  # 8 bytes of a position and one of validity for each head's own entries
        return rows * heads * max(one["kept"] for one in held) * (2 * channels * size + 9)
    if name == "sinks":
        return rows * heads * max(one["kept"] for one in held) * 2 * channels * size
    groups = max(one["coded"] for one in held) // 4
    plain = max(one["kept"] - one["coded"] for one in held)
    codes = 2 * 4 * channels // 2  # keys and values of a group of 4, two codes in a byte
    grids = (channels + 4 * channels // 4) * 2 * size  # scale and low, of channels and of tokens' spans of 4
    return rows * heads * (groups * (codes + grids) + plain * 2 * channels * size)


@every
@either_side
def test_the_bytes_freed_are_true(name: str, side: str) -> None:
    """What is counted is what is stored, in memory of its own, after the prompt and after each step."""
    made, batch = make("llama", side)
    body, slots, whole = anatomies.of(made), Slots(), Slots()
    prefill(body, batch, [], whole)
    prefill(body, batch, [policy(name)], slots)
    lengths = batch["attention_mask"].sum(1).tolist()
    assert slots.nbytes() == sum(expected(name, slot, lengths, 4) for slot in slots.layers.values())
    assert slots.nbytes() < whole.nbytes()
    for number in range(STEPS):
        for slot in slots.layers.values():
            parts = [slot.k, slot.v]
            if slot.older is not None:
                codes = (slot.older.keys, slot.older.values)
                parts += [part for one in codes for part in (one.codes, one.scale, one.low)]
                assert slot.older.nbytes == sum(part.nbytes for part in parts[2:])
            assert all(part.untyped_storage().nbytes() == part.nbytes for part in parts)
        step(body, later(len(lengths), 1), slots)
        if name == "sinks":
            longer = [n + number + 1 for n in lengths]
            assert slots.nbytes() == sum(expected(name, slot, longer, 4) for slot in slots.layers.values())


@every
def test_it_is_refused_where_there_is_no_cache(name: str) -> None:
    encoder, texts = make("bert")
    with pytest.raises(Refused, match=r"cache policies need a model that generates text in the loop; 'bert' does not"):
        prefill(anatomies.of(encoder), texts, [policy(name)])


def test_two_in_one_place_are_refused() -> None:
    body, batch = anatomies.of(make("llama")[0]), make("llama")[1]
    for name, what in (("snapkv", "choose from the prompt"), ("kivi", "store entries in another form")):
        with pytest.raises(Refused, match=f"got 2 cache policies that {what}; accepted: one"):
            prefill(body, batch, [policy(name), policy(name)], Slots())
