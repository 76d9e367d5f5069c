"""The law of Anatomy, for every family: the loop over blocks is the library's forward, and nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaModel

from oracle import (
    DECODERS,
    FAMILIES,
    PICTURED,
    Batch,
    close,
    cut,
    followed,
    library,
    make,
    mask_of,
    one_picture_fewer,
    plain_linears,
    taps,
    untouched,
    without_pictures,
)
from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.base import Anatomy
from trimtab.anatomy.clip import Match
from trimtab.anatomy.families import FAMILIES as TABLE
from trimtab.anatomy.gemma import Gemma
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput
from trimtab.core.linear import Linear
from trimtab.core.stats import IMAGE, PADDING, TEXT

every = pytest.mark.parametrize("name", FAMILIES)
decoding = pytest.mark.parametrize("name", DECODERS)
pictured = pytest.mark.parametrize("name", PICTURED)
either_side = pytest.mark.parametrize("padding", ["left", "right"])


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def answer(found: object) -> Tensor:
    logits = found.logits_per_image if isinstance(found, Match) else found
    assert isinstance(logits, Tensor)
    return logits


def compared(name: str, batch: Batch) -> Tensor:
    """Where answers must agree: valid tokens, or every pair of a picture and a text."""
    found = mask_of(name, batch)
    if found is None or tiny.MODELS.get(name, tiny.MODELS["llama"]).answer == "logits_per_image":
        return torch.ones((), dtype=torch.bool)
    return found.bool()


def test_every_architecture_in_the_table_has_a_tiny_model_under_this_law() -> None:
    seen = {make(name)[0].config.model_type for name in FAMILIES}
    assert set(TABLE) == seen
    assert set(tiny.MODELS) == set(FAMILIES) - {"builtin"}


@every
@either_side
def test_the_loop_answers_as_the_library_does(name: str, padding: str) -> None:
    model, batch = make(name, padding)
    wanted, where = library(name, model, batch), compared(name, batch)
    found = answer(prefill(anatomies.of(model), batch).logits)
    close(found[where], wanted[where])


@every
def test_without_positions_or_mask_the_loop_still_answers_as_the_library_does(name: str) -> None:
    model, batch = make(name)
    batch = {key: value for key, value in batch.items() if not key.endswith(("attention_mask", "position_ids"))}
    wanted = library(name, model, batch)
    close(answer(prefill(anatomies.of(model), batch).logits), wanted)


@every
@either_side
def test_hosting_changes_neither_the_library_s_answer_nor_what_it_generates(name: str, padding: str) -> None:
    model, batch = make(name, padding)
    before, where = library(name, model, batch), compared(name, batch)
    generates = name in DECODERS and padding == "left"
    said = model.generate(**batch, max_new_tokens=6, do_sample=False) if generates else None
    anatomies.of(model)
    close(library(name, model, batch)[where], before[where])
    if said is not None:
        assert torch.equal(model.generate(**batch, max_new_tokens=6, do_sample=False), said)


@decoding
@either_side
def test_token_by_token_with_slots_answers_as_the_library_does_at_once(name: str, padding: str) -> None:
    model, batch = make(name, padding)
    wanted, valid = library(name, model, batch), batch["attention_mask"].bool()
    tail, length = 4, valid.shape[1]
    anatomy, slots = anatomies.of(model), Slots()
    head = cut(batch, slice(0, length - tail))
    pieces = [prefill(anatomy, head, slots=slots).logits]
    for column in range(length - tail, length):
        now = slice(column, column + 1)
        pieces.append(step(anatomy, batch["input_ids"][:, now], slots, valid[:, now]).logits)
    close(torch.cat(pieces, 1)[valid], wanted[valid])
    assert slots.length == length


@decoding
def test_several_tokens_in_one_step_are_as_many_steps(name: str) -> None:
    model, batch = make(name)
    anatomy, slots = anatomies.of(model), Slots()
    prefill(anatomy, batch, slots=slots)
    more = torch.randint(4, 90, (len(batch["input_ids"]), 3))
    at_once = step(anatomy, more, slots).logits
    close(at_once, prefill(anatomy, followed(model, batch, more)).logits[:, -3:])


@every
def test_every_linear_is_listed_once_under_the_library_s_name_and_shares_its_parameters(name: str) -> None:
    """A matrix that the library stores transposed is laid out anew."""
    model, _ = make(name)
    wanted = plain_linears(model)
    anatomy = anatomies.of(model)
    listed = list(anatomy.linears())
    assert sorted(n for n, _ in listed) == sorted(wanted)
    for n, host in listed:
        weight, bias = wanted[n]
        assert torch.equal(host.w.dense(), weight)
        assert host.w.dense().is_contiguous()
        assert host.w.dense().data_ptr() == weight.data_ptr() or not weight.is_contiguous()
        assert (host.bias is None) == (bias is None)
        assert bias is None or (host.bias.data_ptr(), host.bias.shape) == (bias.data_ptr(), bias.shape)
    assert plain_linears(model) == {}


@every
def test_hosting_again_changes_nothing(name: str) -> None:
    model, _ = make(name)
    first = dict(anatomies.of(model).linears())
    again = dict(anatomies.of(model).linears())
    assert all(again[n] is host for n, host in first.items())
    assert first.keys() == again.keys()


@every
def test_a_hosted_model_without_weights_takes_those_of_another_whole(name: str) -> None:
    """As an artifact is loaded: built on the meta device, hosted, then filled by name."""
    model, _ = make(name)
    given = anatomies.of(model)
    with torch.device("meta"):
        empty = model.__class__(model.config)
    taken = anatomies.of(empty)
    assert not empty.load_state_dict(model.state_dict(), assign=True).missing_keys
    assert taken.aliases() == given.aliases()
    assert [n for n, _ in taken.linears()] == [n for n, _ in given.linears()]
    for (_, one), (_, other) in zip(given.linears(), taken.linears(), strict=True):
        assert torch.equal(one.w.dense(), other.w.dense())
    left = {n for n, value in empty.named_parameters() if value.is_meta}
    assert left == set()


@every
def test_stages_are_what_a_block_runs_in_that_order_and_share_their_input(name: str) -> None:
    model, batch = make(name)
    anatomy = anatomies.of(model)
    linears = list(anatomy.linears())
    stream, covered = anatomy.start(batch), []
    for block in anatomy.blocks():
        before = stream
        ran: list[object] = []
        found = taps(linears, lambda block=block, before=before, ran=ran: ran.append(block(before)))
        stages = anatomy.stages(block)
        running = [n for n, _ in found]
        assert sorted(running) == sorted(n for stage in stages for n in stage)
        assert [n for n in running if n in {stage[0] for stage in stages}] == [stage[0] for stage in stages]
        assert all([n for n in running if n in stage] == stage for stage in stages)
        inputs = dict(found)
        for stage in stages:
            assert all(inputs[n] is inputs[stage[0]] for n in stage)
        assert len({id(inputs[stage[0]]) for stage in stages}) == len(stages)
        assert all(inputs[n].shape[-1] == dict(linears)[n].in_features for n in inputs)
        covered += [n for n, _ in found]
        stream = ran[0]
    head = [n for n, _ in linears if anatomy.part_of(n) == "head"]
    assert sorted(covered + head + anatomy.idle()) == sorted(n for n, _ in linears)


@every
def test_every_block_stands_in_the_part_of_its_linears_and_parts_come_in_order(name: str) -> None:
    anatomy = anatomies.of(make(name)[0])
    order = ["vision", "audio", "projector", "language"]
    parts = [block.part for block in anatomy.blocks()]
    assert parts == sorted(parts, key=order.index)
    assert [anatomy.blocks()[i].part for i in anatomy.layers()] == ["language"] * parts.count("language")
    for block in anatomy.blocks():
        assert {anatomy.part_of(n) for stage in block.stages for n in stage} == {block.part}
        anatomy.model.get_submodule(block.name)


@every
def test_part_of_knows_every_host_and_refuses_other_names(name: str) -> None:
    model, batch = make(name)
    anatomy = anatomies.of(model)
    known = {"vision", "audio", "projector", "language", "embedding", "head"}
    assert all(anatomy.part_of(n) in known for n, _ in anatomy.linears())
    reads = int(any("input_ids" in key for key in batch))
    assert [anatomy.part_of(n) for n, _ in anatomy.embeddings()] == ["embedding"] * reads
    first = next(anatomy.linears())[0]
    with pytest.raises(BadInput, match=first):
        anatomy.part_of(f"x{first}")


TIED = (
    "gemma3",
    "gemma3-vision",
    "gptneox-serial",
    "internvl",
    "paligemma",
    "paligemma2",
    "qwen2",
    "qwen2-vl",
    "smolvlm",
)


@every
def test_aliases_are_exactly_the_tied_weights(name: str) -> None:
    model, _ = make(name)
    owners: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            owners.setdefault(id(module.weight), []).append(path)
    tied = [(first, other) for first, *others in owners.values() for other in others]
    anatomy = anatomies.of(model)
    assert anatomy.aliases() == tied
    for first, other in tied:
        assert dict(anatomy.linears())[other].w is dict(anatomy.embeddings())[first].w
    assert bool(tied) == (name in TIED or model.config.model_type in ("opt", "whisper"))


@pictured
@either_side
def test_kinds_mark_exactly_the_image_tokens(name: str, padding: str) -> None:
    model, batch = make(name, padding)
    anatomy = anatomies.of(model)
    stream = anatomy.embed(batch)
    image = model.config.image_token_id
    for row in range(stream.kinds.shape[0]):
        for column in range(stream.kinds.shape[1]):
            word = TEXT if batch["input_ids"][row, column] != image else IMAGE
            wanted = word if batch["attention_mask"][row, column] else PADDING
            assert int(stream.kinds[row, column]) == wanted
    patches = anatomy.blocks()[0](anatomy.start(batch))
    padded = {PADDING} if "pixel_attention_mask" in batch else set()
    assert set(patches.kinds.unique().tolist()) == {IMAGE} | padded
    assert torch.equal(patches.kinds == IMAGE, patches.valid)
    assert stream.source.tolist() == [list(range(stream.x.shape[1]))] * len(stream.x)


@pictured
def test_an_image_token_behind_the_mask_is_padding_and_its_patch_goes_to_no_other(name: str) -> None:
    model, batch = make(name)
    first = int((batch["input_ids"][0] == model.config.image_token_id).nonzero()[0, 0])
    batch["attention_mask"][0, first] = 0
    if "image_grid_thw" in batch:  # half a picture has no place on a grid; the library fails on it too
        with pytest.raises(BadInput, match="image tokens in row 0"):
            prefill(anatomies.of(model), batch)
        return
    wanted, valid = library(name, model, batch), batch["attention_mask"].bool()
    anatomy = anatomies.of(model)
    assert int(anatomy.embed(batch).kinds[0, first]) == PADDING
    close(prefill(anatomy, batch).logits[valid], wanted[valid])


@pictured
def test_a_batch_without_pictures_runs_no_vision_layer_and_answers_as_the_library_does(name: str) -> None:
    model, batch = make(name)
    batch = without_pictures(batch, slice(1, 2))
    wanted, valid = library(name, model, batch), batch["attention_mask"].bool()
    anatomy = anatomies.of(model)
    found: list[Tensor] = []
    ran = taps(anatomy.linears(), lambda: found.append(prefill(anatomy, batch).logits))
    close(found[0][valid], wanted[valid])
    assert {anatomy.part_of(n) for n, _ in ran} == {"language", "head"}


@pictured
def test_an_empty_list_of_pictures_is_named(name: str) -> None:
    model, batch = make(name)
    with pytest.raises(
        BadInput, match=r"pixel_values: got an empty list, shape \(0, .*; accepted: one picture or more"
    ):
        prefill(anatomies.of(model), {**batch, "pixel_values": batch["pixel_values"][:0]})


@decoding
def test_a_prompt_of_more_positions_than_the_model_has_is_named(name: str) -> None:
    model, batch = make(name)
    anatomy = anatomies.of(model)
    furthest = int(anatomy.places(anatomy.start(batch)).max()) + 1
    model.config.get_text_config().max_position_embeddings = furthest - 1
    with pytest.raises(BadInput, match=rf"needs {furthest} positions.*; accepted: at most {furthest - 1}"):
        prefill(anatomy, batch)
    model.config.get_text_config().max_position_embeddings = furthest
    prefill(anatomy, batch)


@pictured
def test_pictures_and_placeholders_that_do_not_match_are_an_error(name: str) -> None:
    model, batch = make(name)
    with pytest.raises(BadInput, match="image tokens"):
        prefill(anatomies.of(model), one_picture_fewer(batch))


def test_layers_behind_the_chosen_vision_layer_are_listed_but_never_run() -> None:
    model, _ = make("llava-penultimate")
    anatomy = anatomies.of(model)
    dead = "model.vision_tower.encoder.layers.2."
    assert anatomy.idle()
    assert all(n.startswith(dead) for n in anatomy.idle())
    assert sorted(anatomy.idle()) == sorted(n for n, _ in anatomy.linears() if n.startswith(dead))
    assert anatomies.of(make("llava")[0]).idle() == []


@pytest.mark.parametrize("name", ["paligemma", "paligemma2", "gemma3-vision"])
def test_a_pooling_head_that_nothing_runs_is_listed_where_there_is_one(name: str) -> None:
    idle = anatomies.of(make(name)[0]).idle()
    assert all(n.startswith("model.vision_tower.head.") for n in idle)
    assert len(idle) == (6 if name == "paligemma" else 0)


def test_a_text_model_under_the_name_of_one_that_sees_is_read_as_text() -> None:
    model, batch = make("gemma3")
    wanted, valid = library("gemma3", model, batch), batch["attention_mask"].bool()
    model.config.model_type = "gemma3"
    anatomy = anatomies.of(model)
    assert type(anatomy) is Gemma
    close(prefill(anatomy, batch).logits[valid], wanted[valid])


@every
def test_see_is_shown_the_queries_keys_mask_and_scaling_that_make_the_library_s_attention(name: str) -> None:
    """In the decoder or text encoder; in the tower where there is nothing else."""
    model, batch = make(name)
    oracle = untouched(model)
    oracle.set_attn_implementation("eager")
    wanted = attentions(name, oracle, batch)
    anatomy = anatomies.of(model)
    seen: list[tuple[Tensor, Tensor, Tensor | None, float]] = []
    alone = mask_of(name, batch) is None
    stream, layers = anatomy.start(batch), range(1, 1 + len(wanted)) if alone else anatomy.layers()
    for index, block in enumerate(anatomy.blocks()):
        stream = block(stream, see=(lambda *shown: seen.append(shown)) if index in layers else None)
    valid = torch.ones(stream.x.shape[0], seen[0][0].shape[2]).bool() if alone else mask_of(name, batch).bool()
    cap = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    assert len(seen) == len(wanted) == len(layers) > 0
    for (q, k, mask, scaling), probabilities in zip(seen, wanted, strict=True):
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
        scores = q.double() @ k.mT.double() * scaling  # only rounding is left: of eager beside SDPA
        scores = scores if cap is None else cap * (scores / cap).tanh()
        scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
        close(scores.softmax(-1).transpose(1, 2)[valid], probabilities.transpose(1, 2)[valid], 3e-5)


def attentions(name: str, oracle: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    if name in ("clip", "siglip"):
        batch = {k: v for k, v in batch.items() if k != "pixel_values"}
        oracle = oracle.text_model
    found = oracle(**batch, output_attentions=True)
    seen: tuple[Tensor, ...] = found.decoder_attentions if "decoder_attentions" in found else found.attentions
    return seen


def test_an_unknown_architecture_is_refused_with_what_to_do() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=8))
    with pytest.raises(BadInput, match=r"'gpt2'.*llama.*docs/adding-an-architecture\.md"):
        anatomies.of(model)


def test_a_class_without_the_head_is_refused_by_what_is_missing() -> None:
    model = LlamaModel(LlamaConfig(**tiny.TEXT))
    with pytest.raises(BadInput, match=r"LlamaModel.*model\.layers.*lm_head.*AutoModelForCausalLM"):
        anatomies.of(model)


def test_a_linear_of_another_class_is_refused_by_name() -> None:
    class Odd(nn.Linear):
        pass

    model, _ = make("llama")
    model.model.layers[1].mlp.up_proj = Odd(32, 48)
    with pytest.raises(BadInput, match=r"model\.layers\.1\.mlp\.up_proj.*Odd"):
        anatomies.of(model)


@every
def test_the_base_is_what_is_listed(name: str) -> None:
    anatomy = anatomies.of(make(name)[0])
    assert isinstance(anatomy, Anatomy)
    assert all(isinstance(host, Linear) for _, host in anatomy.linears())
    assert anatomy.decodes == (name in DECODERS)
