"""Trimmed is called and generates like the library's model; with tokens dropped, like a slow one that masks them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache

from oracle import (
    DECODERS,
    PICTURED,
    Batch,
    Drop,
    close,
    library,
    make,
    random_drop,
    slow,
    slow_greedy,
    untouched,
)
from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.trimmed import Trimmed
from trimtab.core.errors import BadInput, Refused
from trimtab.core.keep import Keep, Place, Sight, share
from trimtab.core.stats import IMAGE

TINY = tuple(name for name in DECODERS if name != "builtin")  # the slow reference takes its time
decoding = pytest.mark.parametrize("name", DECODERS)
small = pytest.mark.parametrize("name", TINY)
either_side = pytest.mark.parametrize("padding", ["left", "right"])
places = pytest.mark.parametrize("layer", [0, 2])


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def late(sight: Sight) -> torch.Tensor:
    """A score without thought: some order of the source indices."""
    return torch.sin(sight.stream.source * 12.9898)


def trimmed(name: str, *policies: Keep | Drop, padding: str = "left") -> tuple[Trimmed, Batch]:
    model, batch = make(name, padding)
    return Trimmed(anatomies.of(model), policies), batch


@small
@either_side
def test_without_policies_or_keeping_all_logits_are_the_loop_s_bit_for_bit(name: str, padding: str) -> None:
    model, batch = make(name, padding)
    anatomy = anatomies.of(model)
    wanted = prefill(anatomy, batch).logits
    everything = [Keep(late, share(1.0), at=Place(layer=layer)) for layer in (0, 2)]
    assert torch.equal(Trimmed(anatomy)(**batch).logits, wanted)
    assert torch.equal(Trimmed(anatomy, everything)(**batch).logits, wanted)
    assert torch.equal(Trimmed(anatomy, everything)(**batch, use_cache=False).logits, wanted)


@decoding
def test_without_policies_it_generates_what_the_library_generates(name: str) -> None:
    model, batch = make(name)
    wanted = model.generate(**batch, max_new_tokens=14, do_sample=False)
    anatomy = anatomies.of(model)
    everything = [Keep(late, share(1.0), at=Place(layer=layer)) for layer in (0, 2)]
    for policies in ([], everything):
        found = Trimmed(anatomy, policies).generate(**batch, max_new_tokens=14, do_sample=False)
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["gemma3-vision", "paligemma"])
def test_without_a_cache_what_was_said_has_the_type_of_an_answer(name: str) -> None:
    model, batch = make(name)
    if name == "paligemma":
        batch["token_type_ids"] = torch.zeros_like(batch["token_type_ids"])  # a prompt, as its processor writes one
    wanted = model.generate(**batch, max_new_tokens=6, do_sample=False, use_cache=False)
    found = Trimmed(anatomies.of(model)).generate(**batch, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(found, wanted)


@small
def test_sampling_with_a_seed_gives_what_the_library_samples_for_each_of_several_answers(name: str) -> None:
    model, batch = make(name)
    knobs = {"max_new_tokens": 6, "do_sample": True, "top_k": 20, "num_return_sequences": 3}
    torch.manual_seed(5)
    wanted = model.generate(**batch, **knobs)
    other = Trimmed(anatomies.of(model))
    torch.manual_seed(5)
    assert torch.equal(other.generate(**batch, **knobs), wanted)


@small
@either_side
@places
def test_dropped_tokens_are_as_if_masked_from_that_layer_on(name: str, padding: str, layer: int) -> None:
    model, batch = make(name, padding)
    drop = random_drop(batch, layer)
    wanted = slow(untouched(model), batch, [drop])
    found = Trimmed(anatomies.of(model), [drop])(**batch).logits
    agree(found, wanted, batch, [drop])


@small
@either_side
def test_two_policies_at_two_layers_add_up(name: str, padding: str) -> None:
    model, batch = make(name, padding)
    drops = [random_drop(batch, 2, seed=1), random_drop(batch, 0, seed=2, share=0.3)]
    wanted = slow(untouched(model), batch, drops)
    agree(Trimmed(anatomies.of(model), drops)(**batch).logits, wanted, batch, drops)


def agree(found: torch.Tensor, wanted: torch.Tensor, batch: Batch, drops: list[Drop]) -> None:
    """Kept positions equal the reference; all others are NaN; something was dropped and something kept."""
    kept = batch["attention_mask"].bool().clone()
    for drop in drops:
        for row, gone in enumerate(drop.gone):
            kept[row, list(gone)] = False
    assert 0 < int(kept.sum()) < int(batch["attention_mask"].sum())
    assert bool(found[~kept].isnan().all())
    assert found.shape == wanted.shape
    close(found[kept], wanted[kept])


@small
@places
def test_generating_with_dropped_tokens_equals_the_slow_reference_token_for_token(name: str, layer: int) -> None:
    model, batch = make(name)
    drop = random_drop(batch, layer)
    oracle = untouched(model)
    found = Trimmed(anatomies.of(model), [drop]).generate(**batch, max_new_tokens=6, do_sample=False)
    wanted = slow_greedy(oracle, batch, [drop], 6, tiny.END, tiny.PAD)
    assert torch.equal(found, wanted)
    assert not torch.equal(found, oracle.generate(**batch, max_new_tokens=6, do_sample=False))


@pytest.mark.parametrize("name", PICTURED)
@places
def test_half_of_the_image_tokens_go_and_the_cache_shrinks_by_their_bytes(name: str, layer: int) -> None:
    policy = Keep(late, share(0.5), at=Place(layer=layer))
    model, batch = make(name)
    anatomy = anatomies.of(model)
    full, less = Slots(), Slots()
    before = prefill(anatomy, batch, slots=full)
    after = prefill(anatomy, batch, [policy], slots=less)
    images = (before.stream.kinds == IMAGE).sum(1)
    per_picture = [sum(policy.budget(int(n)) if n else 0 for n in row) for row in images[:, None].tolist()]
    assert (after.stream.kinds == IMAGE).sum(1).tolist() == per_picture
    (kept,) = after.kept
    assert (kept.before - kept.after).tolist() == (images - torch.tensor(per_picture)).tolist()
    assert kept.before.tolist() == batch["attention_mask"].sum(1).tolist()
    config = model.config.get_text_config()
    entry = 2 * config.num_key_value_heads * config.head_dim * 4  # keys and values, float32
    rows, longest = batch["input_ids"].shape
    narrow = int(kept.after.max())
    layers = config.num_hidden_layers
    assert full.nbytes() == rows * entry * longest * layers
    assert less.nbytes() == rows * entry * (longest * layer + narrow * (layers - layer))
    assert less.nbytes() < full.nbytes()
    assert full.length == less.length == longest


def test_the_last_token_is_never_dropped_even_where_it_is_an_image_token() -> None:
    model, batch = make("llava")
    ends = {k: v[2:3] for k, v in batch.items()}
    valid = ends["attention_mask"][0].bool()
    image = ends["input_ids"][0] == tiny.IMAGE_TOKEN
    stop = int(image.nonzero().max()) + 1
    ends = {k: v if k == "pixel_values" else v[:, :stop][:, valid[:stop]] for k, v in ends.items()}
    ends["pixel_values"] = batch["pixel_values"][:1]
    least = Keep(lambda sight: -sight.stream.source.float(), share(0.01))
    found = prefill(anatomies.of(model), ends, [least])
    assert not found.logits[0, -1].isnan().any()
    assert found.stream.source[0].tolist()[-1] == ends["input_ids"].shape[1] - 1
    assert int((found.stream.kinds == IMAGE).sum()) == 2  # the one picked, and the last


@small
def test_only_the_logits_that_are_asked_for_are_computed(name: str) -> None:
    model, batch = make(name)
    drop = random_drop(batch, 2)
    anatomy = anatomies.of(model)
    for policies in ([], [drop]):
        whole = prefill(anatomy, batch, policies).logits
        for last in (1, 3):
            part = prefill(anatomy, batch, policies, logits_to_keep=last).logits
            assert part.shape[1] == last
            assert torch.equal(part.isnan(), whole[:, -last:].isnan())
            close(part.nan_to_num(), whole[:, -last:].nan_to_num())


@small
@places
def test_a_conversation_that_goes_on_equals_the_slow_reference(name: str, layer: int) -> None:
    """Eight more tokens, so that windows slide over gaps and old entries of windowed layers are forgotten."""
    model, batch = make(name)
    drop = random_drop(batch, layer)
    oracle, other = untouched(model), Trimmed(anatomies.of(model), [drop])
    said = torch.randint(4, 90, (len(batch["input_ids"]), 8))
    first = other(**batch)
    logits = []
    for column in range(8):
        mask = torch.cat([batch["attention_mask"], torch.ones_like(said[:, : column + 1])], 1)
        now = other(said[:, column : column + 1], attention_mask=mask, past_key_values=first.past_key_values)
        logits.append(now.logits)
    wanted = slow(oracle, batch, [drop], said)[:, -8:]
    close(torch.cat(logits, 1), wanted)


def test_layers_with_a_window_forget_what_no_later_token_can_see() -> None:
    model, batch = make("gemma3")
    anatomy, slots = anatomies.of(model), Slots()
    prefill(anatomy, batch, slots=slots)
    token = batch["input_ids"][:, -1:]
    for _ in range(40):
        step(anatomy, token, slots)
    stored = {layer: slot.k.shape[2] for layer, slot in slots.layers.items()}
    total = batch["input_ids"].shape[1] + 40
    assert stored[1] == stored[3] == slots.length == total
    assert stored[0] == stored[2] <= 2 * model.config.sliding_window
    for slot in slots.layers.values():
        assert slot.k.shape[2] == slot.v.shape[2] == slot.positions.shape[1] == slot.valid.shape[1]


def test_dropping_is_decided_once_at_the_prompt() -> None:
    seen = []

    def score(sight: Sight) -> torch.Tensor:
        seen.append(sight)
        return late(sight)

    other, batch = trimmed("llava", Keep(score, share(0.5), at=Place(layer=2)))
    other.generate(**batch, max_new_tokens=4, do_sample=False)
    (sight,) = seen
    b, t = batch["input_ids"].shape
    assert sight.layer == 2
    assert sight.q.shape == (b, 4, t, 8)
    assert sight.k.shape == (b, 2, t, 8)
    assert sight.mask.shape == (b, 1, t, t)
    assert sight.scaling == pytest.approx(8**-0.5)


@pytest.mark.parametrize(
    ("knobs", "name"),
    [
        ({"num_beams": 2}, "beam_search"),
        ({"num_beams": 2, "do_sample": True}, "beam_sample"),
        ({"prompt_lookup_num_tokens": 2}, "assisted_generation"),
        ({"penalty_alpha": 0.5, "top_k": 4}, "contrastive_search"),
        ({"cache_implementation": "static"}, "static"),
        ({"custom_generate": "some/where"}, "custom_generate"),
        ({"use_cache": False}, "use_cache"),
    ],
)
def test_other_ways_to_decode_are_refused_by_name(knobs: dict[str, object], name: str) -> None:
    other, batch = trimmed("llava", Keep(late, share(0.5)))
    with pytest.raises(Refused, match=name):
        other.generate(**batch, max_new_tokens=3, **knobs)


def test_an_assistant_and_continuous_batching_are_refused_by_name() -> None:
    other, batch = trimmed("llama")
    with pytest.raises(Refused, match="assisted_generation"):
        other.generate(**batch, max_new_tokens=3, assistant_model=make("llama")[0])
    with pytest.raises(Refused, match="continuous batching"):
        other.generate_batch(inputs=[[1, 5, 6]])


def test_arguments_that_would_be_ignored_are_refused_by_name() -> None:
    other, batch = trimmed("llava", Keep(late, share(0.5)))
    with pytest.raises(BadInput, match="output_attentions"):
        other(**batch, output_attentions=True)
    with pytest.raises(BadInput, match="inputs_embeds"):
        other(inputs_embeds=torch.randn(1, 3, 32))
    with pytest.raises(BadInput, match="DynamicCache"):
        other(**batch, past_key_values=DynamicCache(config=other.config.get_text_config()))
    cache = other(**batch).past_key_values
    with pytest.raises(Refused, match="pixel_values"):
        other(**batch, past_key_values=cache)
    with pytest.raises(Refused, match="not empty"):
        prefill(other.anatomy, batch, slots=cache)


def test_policies_that_cannot_act_are_refused() -> None:
    model, batch = make("llava")
    anatomy, half = anatomies.of(model), Keep(late, share(0.5))
    with pytest.raises(Refused, match="two token policies at layer 0"):
        prefill(anatomy, batch, [half, half])
    with pytest.raises(BadInput, match="layer: got 4; accepted: 0 to 3"):
        prefill(anatomy, batch, [replace(half, at=Place(layer=4))])
    encoder, texts = make("bert")
    with pytest.raises(Refused, match="'bert'"):
        prefill(anatomies.of(encoder), texts, [half])
    with pytest.raises(BadInput, match="'bert' does not generate"):
        anatomies.of(encoder).words(texts["input_ids"], texts["input_ids"], texts["attention_mask"].bool())
    with pytest.raises(BadInput, match="empty cache"):
        step(anatomy, batch["input_ids"][:, -1:], Slots())


def test_it_is_a_module_like_the_library_s() -> None:
    other, batch = trimmed("llava")
    model = other.anatomy.model
    assert other.config is model.config
    assert other.generation_config is model.generation_config
    assert (other.device, other.dtype) == (model.device, model.dtype)
    assert {id(p) for p in other.parameters()} == {id(p) for p in model.parameters()}
    logits, cache = other(**batch, return_dict=False)
    assert isinstance(cache, Slots)
    assert torch.equal(logits, other(**batch).logits)
    assert other(**batch, use_cache=False).past_key_values is None
    close(logits[batch["attention_mask"].bool()], library("llava", model, batch)[batch["attention_mask"].bool()])
