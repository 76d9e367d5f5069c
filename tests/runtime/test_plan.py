"""Law of the plan: a decoder in one compiled call answers as the model does, by every form of weight and every level of
vector instructions, and what it cannot take says why."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from planning import SIZES, WIDE, engine_of, off, seeing
from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy import tiny
from trimtab.anatomy.base import Anatomy
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.trimmed import Trimmed
from trimtab.cache import SnapKV
from trimtab.core.errors import BadInput
from trimtab.core.factors import LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Sum
from trimtab.core.native import library
from trimtab.core.weight import Weight
from trimtab.runtime.level import LEVELS, VARIABLE, level
from trimtab.runtime.plan import build, prompt
from trimtab.runtime.plan.build import Plan, planned
from trimtab.runtime.plan.engine import Engine
from trimtab.runtime.plan.entries import Cache, Entries
from trimtab.runtime.plan.greedy import greedy, guess
from trimtab.runtime.plan.model import Moved, Planned
from trimtab.runtime.plan.verify import verify
from trimtab.tokens import DivPrune, FastV, ToMe

FAMILIES = ("llama", "qwen3", "gemma3")
FORMS = {
    "float32": None, "bfloat16": None,
    **{f"{bits} bits": ("rtn", {"bits": bits, "group_size": 32}) for bits in (2, 3, 4, 8)},
    "4 bits symmetric": ("rtn", {"bits": 4, "group_size": 32, "symmetric": True}),
    "2 bits symmetric": ("rtn", {"bits": 2, "group_size": 32, "symmetric": True}),
    "4 bits in groups of 16": ("rtn", {"bits": 4, "group_size": 16}),
    "half of it": ("magnitude", {"keep": 0.5}),
    "2:4": ("magnitude", {"keep": 0.5, "pattern": "2:4"}),
    "nf4": ("nf4", {"group_size": 32}),
    "mxfp4": ("fp4", {"format": "mxfp4"}),
}  # fmt: skip
HERE = 0 if library() is None else int(library().trimtab_level())  # type: ignore[union-attr]
levels = pytest.mark.parametrize("name", LEVELS[: HERE + 1])
forms = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    assert library() is not None, "the compiled library is not built"
    with torch.inference_mode():
        yield


def model_of(family: str, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    if family == "llama":
        made: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, tie_word_embeddings=False))
    elif family == "qwen3":
        shared = {"head_dim": 64, "num_attention_heads": 8}  # heads that are taken four at once
        made = Qwen3ForCausalLM(Qwen3Config(**(WIDE | shared), tie_word_embeddings=False))
    else:
        kinds = ["sliding_attention", "full_attention"] * 2
        made = Gemma3ForCausalLM(Gemma3TextConfig(**WIDE, sliding_window=5, query_pre_attn_scalar=12, layer_types=kinds,
                                                  tie_word_embeddings=True, final_logit_softcapping=20.0))  # fmt: skip
    tiny.randomize(made.eval())
    return made


def hosted(family: str, form: str) -> Anatomy:
    """The family in the form, computed in float32 by the reference."""
    model = model_of(family)
    if form != "float32":
        model.bfloat16()
    found = anatomies.of(model)
    found.host()
    if (said := FORMS[form]) is not None:
        made: dict[int, Weight] = {}
        for name, host in (*found.linears(), *found.embeddings()):
            old = host.w
            made.setdefault(id(old), methods.make(said[0], dict(said[1]))(old, Site(name, old.dense)))
            host.w = made[id(old)]
    return found


def reference(found: Anatomy, ids: Tensor, valid: Tensor) -> Tensor:
    """Logits by the loop in float32."""
    wide = anatomies.of(found.model.float())
    return prefill(wide, {"input_ids": ids, "attention_mask": valid.long()}).logits


@levels
@forms
@pytest.mark.parametrize("family", FAMILIES)
def test_word_by_word_it_answers_as_the_model(
    family: str, form: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows padded on the left, the prompt by the loop, then one word at a time, then several at once."""
    found = hosted(family, form)
    engine = engine_of(found, monkeypatch, name)
    assert verify(engine) is None
    ids, valid = torch.randint(3, 100, (3, 30)), torch.ones(3, 30, dtype=torch.bool)
    valid[1, :4] = False
    found.model.float()  # the prompt, and what it is compared with
    model, slots = Planned(found, engine), Moved()
    prompt = {"input_ids": ids[:, :9], "attention_mask": valid[:, :9].long()}
    made = [prefill(found, prompt, slots=slots).logits[:, -1:].float()]
    made += [model.step(slots, ids[:, at : at + 1], valid[:, at : at + 1]) for at in range(9, 12)]
    made.append(model.step(slots, ids[:, 12:15], valid[:, 12:15]))
    made.append(model.step(slots, ids[:, 15:], valid[:, 15:]))
    theirs = reference(found, ids, valid)[:, 8:]
    mine = torch.cat(made, 1)
    # bfloat16 keys and values, and inputs of more than four rows rounded to 8 bits
    assert off(mine[:, 1:4], theirs[:, 1:4]) < 0.02
    assert off(mine[:, 4:], theirs[:, 4:]) < 0.05
    assert slots.layers == {}
    assert slots.length == 30


@levels
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["float32", "4 bits"])
def test_thin_factors_beside_a_matrix_are_of_the_plan(
    family: str, form: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pairs beside some matrices of each layer, one of a factor of its own: by few rows and by many."""
    found = hosted(family, form)

    def pair(host: Any, rank: int, scale: float) -> LowRank:
        (out, width), dtype = host.w.shape, host.weight_dtype
        return LowRank(0.15 * torch.randn(out, rank).to(dtype), 0.15 * torch.randn(rank, width).to(dtype), scale)

    plain = reference(found, torch.arange(3, 53)[None], torch.ones(1, 50, dtype=torch.bool))
    found = hosted(family, form)
    for number, (_, host) in enumerate(found.linears()):
        if number % 3 and host is not found.model.get_output_embeddings():
            host.w = Sum([pair(host, 5, 2.0), host.w, pair(host, 3, 1.0)][number % 2 :])
    engine = engine_of(found, monkeypatch, name)
    assert verify(engine) is None
    model, prompt = Planned(found, engine), {"input_ids": torch.arange(3, 53)[None]}
    prompt["attention_mask"] = torch.ones_like(prompt["input_ids"])
    mine = model(**prompt, use_cache=True)
    word = torch.tensor([[7]])
    after = model(input_ids=word, past_key_values=mine.past_key_values, use_cache=True).logits
    ids = torch.cat([prompt["input_ids"], word], 1)
    theirs = reference(found, ids, torch.ones_like(ids).bool())
    assert off(mine.logits.float(), theirs[:, :-1]) < 0.05
    assert off(after.float(), theirs[:, -1:]) < 0.05
    assert off(theirs[:, :-1], plain) > 0.2, "what stands beside does something"


@levels
@pytest.mark.parametrize("form", ["float32", "bfloat16", "4 bits", "8 bits", "nf4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_many_rows_of_one_sequence(family: str, form: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt in two calls, neither of whole tiles, every logit looked at; then a word behind it."""
    found = hosted(family, form)
    engine = engine_of(found, monkeypatch, name)
    ids = torch.randint(3, 100, (1, 120))
    found.model.float()
    model, slots = Planned(found, engine), Moved()
    prefill(found, {"input_ids": ids[:, :3]}, slots=slots)
    cuts = [3, 40, 119, 120]
    made = [model.step(slots, ids[:, a:b], torch.ones(1, b - a, dtype=torch.bool)) for a, b in pairwise(cuts)]
    theirs = reference(found, ids, torch.ones_like(ids, dtype=torch.bool))[:, 3:]
    for mine, part in zip(made, theirs.split([b - a for a, b in pairwise(cuts)], 1), strict=True):
        assert off(mine, part) < 0.05


@levels
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_sequences_may_come_in_any_turn(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sequence behind the other, of odd lengths, or row by row in turn, and with words of a third among them: as
    each by itself; and so for what goes on behind them."""
    found = hosted(family, "bfloat16")
    engine = engine_of(found, monkeypatch, name)
    spec, counts = engine.plan.spec, (37, 50, 19)
    ids = [torch.randint(3, 100, (count,)) for count in counts]

    def empty(count: int) -> Cache:
        return Cache([[Entries.empty(spec.shared, spec.size) for _ in range(spec.count)] for _ in range(count)])

    def read(cache: Cache, rows: list[tuple[int, int]]) -> Tensor:
        """Logits of (sequence, place) pairs in their order."""
        sequences, places = (torch.tensor(list(each)) for each in zip(*rows, strict=True))
        words = torch.stack([ids[one][at] for one, at in rows])
        made = engine.step(cache, words, places, sequences, wanted=torch.ones(len(rows), dtype=torch.bool)).logits
        assert made is not None
        return made

    alone = {(one, at): row for one, count in enumerate(counts)
             for at, row in enumerate(read(empty(3), [(one, at) for at in range(count)]))}  # fmt: skip
    behind = [(one, at) for one, count in enumerate(counts) for at in range(count)]
    turns = sorted(behind, key=lambda pair: pair[1])
    for rows in (behind, turns, [*behind[:37], *behind[87:], *behind[37:87]]):
        for cut in (len(rows), 61):
            cache = empty(3)
            made = torch.cat([read(cache, part) for part in (rows[:cut], rows[cut:]) if part])
            assert off(made, torch.stack([alone[pair] for pair in rows])) < 0.02


@pytest.mark.parametrize("family", FAMILIES)
def test_it_generates_what_the_model_does(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy, a batch of two lengths, through ``generate``: every word is the model's, or as good as tied with it."""
    found = hosted(family, "float32")
    engine = engine_of(found, monkeypatch)
    ids = torch.randint(3, 100, (2, 7))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    asked = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 12, "do_sample": False}
    made = Planned(found, engine).generate(**asked)
    assert made.shape == (2, 19)
    whole = torch.cat([mask, torch.ones(2, 12, dtype=torch.int64)], 1)
    logits = prefill(found, {"input_ids": made, "attention_mask": whole}).logits[:, 6:-1]
    lost = logits.amax(-1) - logits.gather(2, made[:, 7:, None])[..., 0]
    assert (lost <= 0.03 * logits.std()).all()


@levels
def test_a_prompt_of_several_calls_and_several_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More tokens than a call takes, of one row and of two that differ in length, past a window; logits are capped."""
    config = Gemma3TextConfig(**WIDE | {"max_position_embeddings": 512}, sliding_window=40, query_pre_attn_scalar=12,
                              layer_types=["sliding_attention", "full_attention"] * 2, final_logit_softcapping=20.0,
                              attn_logit_softcapping=30.0)  # fmt: skip
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(config).eval()
    tiny.randomize(model)
    found = anatomies.of(model.bfloat16())
    found.host()
    monkeypatch.setenv(VARIABLE, name)
    plan = planned(found, LEVELS.index(name))
    assert isinstance(plan, Plan)
    mine = Planned(found, Engine(plan, 2))
    ids, valid = torch.randint(3, 100, (2, 300)), torch.ones(2, 300, dtype=torch.int64)
    valid[0, :90] = 0
    for rows in (slice(1, 2), slice(0, 2)):
        here = mine(input_ids=ids[rows], attention_mask=valid[rows], use_cache=True)
        wide = anatomies.of(deepcopy(model).float())
        theirs = prefill(wide, {"input_ids": ids[rows], "attention_mask": valid[rows]}).logits
        there = valid[rows].bool()
        assert off(here.logits[there], theirs[there]) < 0.05
        assert here.past_key_values.cache is not None
        assert [one[0].count for one in here.past_key_values.cache.sequences] == valid[rows].sum(1).tolist()


def test_a_sequence_goes_on_past_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hosted("llama", "float32")
    engine = engine_of(found, monkeypatch)
    ids = torch.randint(3, 100, (1, 200))
    model, slots, plain = Planned(found, engine), Moved(), Slots()
    for one in (slots, plain):
        prefill(found, {"input_ids": ids[:, :3]}, slots=one)
    made = torch.cat(
        [model.step(slots, ids[:, at : at + 1], torch.ones(1, 1, dtype=torch.bool)) for at in range(3, 200)], 1
    )
    theirs = step(found, ids[:, 3:], plain).logits
    assert off(made, theirs) < 0.02
    assert slots.cache is not None
    assert slots.cache.sequences[0][0].count == 200
    assert slots.nbytes() == plain.nbytes() / 2, "in bfloat16, of what is stored, without the room for more"


def test_angles_reach_as_far_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as far each time, never past the model's own positions; a prompt and a word alike."""
    monkeypatch.setattr(build, "FIRST", 16)
    found = hosted("gemma3", "4 bits")
    ids = torch.randint(3, 100, (1, 200))
    theirs = Planned(found, engine_of(found, monkeypatch))
    near = engine_of(found, monkeypatch)
    monkeypatch.undo()
    whole = engine_of(found, monkeypatch)
    assert (near.plan.spec.positions, whole.plan.spec.positions) == (16, 256)
    for count, span in ((10, 16), (30, 32), (33, 64), (200, 200)):
        given = {"input_ids": ids[:, :count]}
        assert torch.equal(theirs.prompt(given, None, 0), Planned(found, whole).prompt(given, None, 0))
        near.plan.reach(count)
        assert near.plan.spec.positions == span
    near.plan.reach(256)
    assert near.plan.spec.positions == 256
    with pytest.raises(BadInput, match="positions: got 256 to 256; accepted: 0 to 255"):
        near.step(empty(near), torch.tensor([3]), torch.tensor([256]), torch.zeros(1, dtype=torch.int32))


def empty(engine: Engine) -> Cache:
    spec = engine.plan.spec
    return Cache([[Entries.empty(spec.shared, spec.size) for _ in range(spec.count)]])


def test_rows_do_not_know_of_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of five is rounded as one of one is not, so each within the batch: the others changed, it stays."""
    found = hosted("qwen3", "4 bits")
    engine = engine_of(found, monkeypatch)
    ids = torch.randint(3, 100, (5, 8))
    other = ids.clone()
    other[1:] = torch.randint(3, 100, (4, 8))
    made = []
    for given in (ids, other):
        slots = Moved()
        prefill(found, {"input_ids": given[:, :7]}, slots=slots)
        made.append(Planned(found, engine).step(slots, given[:, 7:], torch.ones(5, 1, dtype=torch.bool))[0])
    assert torch.equal(*made)


POLICIES: dict[str, tuple[Any, ...]] = {
    "none": (), "divprune": (DivPrune(0.5),), "fastv": (FastV(0.5, 2),), "both": (DivPrune(0.75), FastV(0.5, 3)),
}  # fmt: skip


@levels
@pytest.mark.parametrize("policies", POLICIES)
def test_prompts_with_pictures_and_policies(policies: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tokens dropped, the same logits where they were not, and the words behind them."""
    found, batch = seeing()
    engine, chosen = engine_of(found, monkeypatch, name), [one.policy() for one in POLICIES[policies]]
    mine, theirs = Planned(found, engine, chosen), Trimmed(found, chosen)
    here, there = mine(**batch, use_cache=True), theirs(**batch, use_cache=True)
    assert isinstance(here.past_key_values, Moved)
    assert here.past_key_values.cache is not None, "by the plan"
    dropped = [one.logits.isnan().any(-1).sum(1).tolist() for one in (here, there)]
    assert dropped[0] == dropped[1]
    known = ~(here.logits.isnan() | there.logits.isnan()) & batch["attention_mask"].bool()[..., None]
    assert off(here.logits[known], there.logits[known]) < 0.05
    word = here.logits[:, -1:].argmax(-1)
    more = [
        one(input_ids=word, past_key_values=two.past_key_values).logits for one, two in ((mine, here), (theirs, there))
    ]
    assert off(*more) < 0.05
    last = mine(**batch, use_cache=True, logits_to_keep=1).logits
    torch.testing.assert_close(last, here.logits[:, -1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", [DivPrune(1.0), FastV(1.0, 2), ToMe(1.0)], ids=lambda one: one.CARD.name)
def test_a_policy_that_keeps_all_costs_nothing(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No layer goes by the loop for it, nothing is scored, and the answer is the same to the bit."""
    found, batch = seeing()
    engine, chosen = engine_of(found, monkeypatch), policy.policy()
    monkeypatch.setattr(prompt._Run, "looked_at", Mock(side_effect=AssertionError))
    for name in ("score", "match"):
        if hasattr(chosen, name):
            chosen = replace(chosen, **{name: Mock(side_effect=AssertionError)})
    there = Planned(found, engine)(**batch, use_cache=True).logits
    mine, valid = Planned(found, engine, [chosen])(**batch, use_cache=True).logits, batch["attention_mask"].bool()
    assert torch.equal(mine[valid], there[valid])
    here, plain = (prefill(found, batch, policies) for policies in ([chosen], []))
    assert torch.equal(here.logits, plain.logits)
    assert [one.before.tolist() for one in here.kept] == [one.after.tolist() for one in here.kept]


@pytest.mark.parametrize("policy", [ToMe(0.5), SnapKV(8, window=2, kernel=1)], ids=lambda one: one.CARD.name)
def test_what_the_plan_cannot_do_stays_with_the_loop(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt whose tokens merge, or whose cache is chosen from: the words behind it are the plan's all the same,
    where every head keeps the same."""
    found, batch = seeing()
    chosen = [policy.policy()]
    mine, theirs = Planned(found, engine_of(found, monkeypatch), chosen), Trimmed(found, chosen)
    here, there = (one(**batch, use_cache=True) for one in (mine, theirs))
    assert torch.equal(here.logits.nan_to_num(), there.logits.nan_to_num())
    assert here.past_key_values.cache is None
    word = there.logits[:, -1:].argmax(-1)
    more = [
        one(input_ids=word, past_key_values=two.past_key_values).logits for one, two in ((mine, here), (theirs, there))
    ]
    assert off(*more) < 0.02
    assert (here.past_key_values.cache is not None) == (policy.CARD.name == "tome")


@pytest.mark.parametrize("family", ["phi", "gptneox", "opt"])
def test_other_layouts_say_why(family: str) -> None:
    model, _ = tiny.make(family)
    found = anatomies.of(model)
    found.host()
    why = planned(found, 0)
    assert isinstance(why, str)
    assert "layout" in why


def test_an_encoder_has_no_plan() -> None:
    found = anatomies.of(tiny.make("bert")[0])
    assert planned(found, 0) == "no stack of decoder layers"


def test_a_level_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "sse9")
    with pytest.raises(BadInput, match=f"{VARIABLE}: got 'sse9'; accepted here: plain"):
        level()


def test_a_layer_that_answers_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something in the library's layer that the plan does not know of."""
    found = hosted("llama", "float32")
    engine = engine_of(found, monkeypatch)
    assert verify(engine) is None
    layer = found.decoder.module.layers[0]  # type: ignore[attr-defined]
    layer.self_attn.scaling *= 1.5
    why = verify(engine)
    assert why is not None
    assert "layer 0" in why


@pytest.mark.parametrize("family", FAMILIES)
def test_guessing_changes_no_word(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that repeats itself, so that guesses come true and fail."""
    found = hosted(family, "4 bits")
    model = Planned(found, engine_of(found, monkeypatch))
    ids = torch.randint(3, 20, (1, 12)).repeat(1, 3)
    plain = [word for part in greedy(model, {"input_ids": ids}, 60, guessing=False) for word in part]
    parts = list(greedy(model, {"input_ids": ids}, 60))
    assert [word for part in parts for word in part] == plain
    assert len(plain) == 60
    assert max(map(len, parts)) > 1


def test_an_answer_ends_at_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hosted("llama", "float32")
    model = Planned(found, engine_of(found, monkeypatch))
    ids = torch.randint(3, 100, (1, 12))
    words = [word for part in greedy(model, {"input_ids": ids}, 30) for word in part]
    end = words[10]
    cut = [word for part in greedy(model, {"input_ids": ids}, 30, [end]) for word in part]
    assert cut == words[: words.index(end) + 1]


@pytest.mark.parametrize(
    ("words", "guessed"),
    [([5, 6, 7, 8, 5, 6], [7, 8, 5]), ([1, 2, 3], []), ([4, 4], [4]), ([1, 2, 9, 1, 2, 8, 1, 2], [8, 1, 2])],
)
def test_a_guess_is_what_followed_before(words: list[int], guessed: list[int]) -> None:
    assert guess(words, 3) == guessed
