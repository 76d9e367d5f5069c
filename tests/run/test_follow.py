"""What may follow what on the same layers, told before any work; and what invariants see inside an expression."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy import tiny
from trimtab.core.codebook import Codebook
from trimtab.core.errors import BadInput
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.joins import Chain, Sum
from trimtab.core.linear import Host, Linear
from trimtab.core.scales import Scales
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.run.calibration import LAYERWISE
from trimtab.run.check import fits
from trimtab.run.follow import clashes
from trimtab.run.invariants import LAYERS, State, check, low_rank, masked, on_grid
from trimtab.run.recipe import Recipe

RTN = {"bits": 4, "group_size": 8}
LORA = {"r": 2, "target_modules": ["language"]}


def recipe(steps: list[Any]) -> Recipe:
    return Recipe.parse({"model": "x", "task": {"dataset": "easyvqa"}, "steps": steps})


def told(steps: list[Any], name: str = "llava") -> list[str]:
    return list(clashes(anatomies.of(tiny.make(name)[0]), recipe(steps).steps))


@pytest.mark.parametrize(
    "steps",
    [
        [{"gptq": RTN}, {"eora": {"r": 2}}, {"divprune": {"keep": 0.5}}],
        [{"divprune": {"keep": 0.5}}, {"wanda": {"keep": 0.5}}, {"svd": {"r": 2}}, {"eora": {"r": 2}}],
        [{"awq": RTN | {"targets": ["language"]}}, {"sparsegpt": {"targets": ["vision"]}},
         {"eora": {"r": 2, "targets": ["language", "vision"]}}],
        [{"rtn": RTN | {"targets": ["q_proj"]}}, {"gptq": RTN | {"ignore": ["q_proj"]}}],
        [{"gptq": RTN}, {"eora": {"r": 2}}, {"lora": LORA}, {"snapkv": {"capacity": 64}}],
        [{"lora": LORA}, {"merge": {}}, {"gptq": RTN}],
        [{"nf4": {"group_size": 8}}, {"lora": LORA}, {"merge": {"requantize": True}}],
        [{"mr_gptq": {}}, {"eora": {"r": 2}}, {"lora": LORA}, {"snapkv": {"capacity": 64}}],
        [{"wanda": {"pattern": "2:4"}}, {"lora": LORA}],
    ],
)  # fmt: skip
def test_what_leaves_the_rest_standing_may_follow(steps: list[Any]) -> None:
    assert told(steps) == []


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{"gptq": RTN}, {"rtn": RTN}],
         ["steps.1.rtn: model.", "more)", "steps.0.gptq established 'on_grid'", "rtn neither"]),
        ([{"nf4": {"group_size": 8}}, {"gptq": RTN}], ["steps.1.gptq", "steps.0.nf4 established 'on_grid'"]),
        ([{"fp4": {}}, {"mr_gptq": {}}], ["steps.1.mr_gptq", "steps.0.fp4 established 'on_grid'"]),
        ([{"gptq": RTN}, {"wanda": {"keep": 0.5}}], ["steps.1.wanda", "steps.0.gptq established 'on_grid'"]),
        ([{"sparsegpt": {}}, {"awq": RTN}], ["steps.1.awq", "steps.0.sparsegpt established 'masked'"]),
        ([{"gptq": RTN}, {"eora": {"r": 2}}, {"gptq": RTN}], ["steps.2.gptq", "steps.0.gptq established 'on_grid'"]),
        ([{"rtn": RTN | {"targets": ["q_proj"]}}, {"rtn": RTN | {"targets": ["language"]}}],
         ["layers.0.self_attn.q_proj", "(and 3 more)"]),
        ([{"eora": {"r": 2}}], ["steps.0.eora: model.", "nothing to make up for"]),
        ([{"lora": LORA}, {"gptq": RTN}], ["steps.1.gptq: model.language_model.layers.0", "steps.0.lora established"]),
        ([{"rtn": RTN}, {"lora": LORA}, {"eora": {"r": 2}}], ["steps.2.eora", "steps.1.lora put an adapter here"]),
        ([{"rtn": RTN}, {"lora": LORA}, {"merge": {"requantize": True}}, {"gptq": RTN | {"targets": ["language"]}}],
         ["steps.3.gptq", "steps.2.merge established 'on_grid'"]),
        ([{"lora": LORA}, {"merge": {}}, {"gptq": RTN}, {"eora": {"r": 2}}],
         ["steps.3.eora: model.language_model.layers.0", "steps.0.lora put an adapter here", "put eora first"]),
        ([{"rtn": RTN | {"targets": ["vision"]}}, {"eora": {"r": 2, "targets": ["vision", "projector"]}}],
         ["steps.1.eora: model.multi_modal_projector.linear_1 (and 1 more)"]),
    ],
)  # fmt: skip
def test_what_would_undo_a_step_is_named_with_step_layer_invariant_and_who_made_it(
    steps: list[Any], says: list[str]
) -> None:
    found = told(steps)
    assert len(found) == 1
    assert all(word in found[0] for word in says), found[0]


def test_tied_layers_are_one() -> None:
    found = told([{"rtn": RTN | {"targets": ["embedding"]}}, {"rtn": RTN | {"targets": ["head"]}}], "gemma3")
    assert len(found) == 1
    assert "steps.1.rtn: model.embed_tokens" in found[0]


def test_cards_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that consumes what stands may follow, and then it stands no more."""
    from dataclasses import replace

    from trimtab.prune import Wanda

    assert told([{"rtn": RTN}, {"wanda": {}}]) != []
    monkeypatch.setattr(Wanda, "CARD", replace(Wanda.CARD, consumes=("on_grid",)))
    assert told([{"rtn": RTN}, {"wanda": {}}]) == []
    assert "steps.1.wanda established 'masked'" in told([{"rtn": RTN}, {"wanda": {}}, {"rtn": RTN}])[0]
    assert "on_grid" not in told([{"rtn": RTN}, {"wanda": {}}, {"rtn": RTN}])[0]


def fitting(steps: list[Any], manifest: object = None) -> None:
    loaded = SimpleNamespace(anatomy=anatomies.of(tiny.make("llava")[0]), manifest=manifest, streamed=False)
    fits(SimpleNamespace(recipe=recipe(steps), loaded=loaded))  # type: ignore[arg-type]


def test_a_run_refuses_before_the_work() -> None:
    fitting([{"gptq": RTN}, {"eora": {"r": 2}}])
    with pytest.raises(BadInput, match=r"steps\.1\.wanda: .* established 'on_grid'"):
        fitting([{"gptq": RTN}, {"wanda": {}}])
    with pytest.raises(BadInput, match=r"steps\.1\.eora: .*: r: got 99 for \d+ x \d+; accepted: 1 to \d+ \(nearest: "):
        fitting([{"gptq": RTN}, {"eora": {"r": 99}}])
    with pytest.raises(BadInput, match=r"steps\.1\.eora: .* artifact no longer has them"):
        fitting([{"gptq": RTN}, {"eora": {"r": 2}}], manifest=object())


def quantized() -> Quantized:
    return Quantized.of(torch.randint(0, 16, (8, 16), dtype=torch.uint8), torch.rand(8, 2) + 0.1, None, 4)


def sparse() -> Masked:
    return Masked.of(torch.randn(8, 16), torch.tensor([True, False]).repeat(8, 8))


def levels() -> Codebook:
    codes = torch.randint(0, 16, (8, 16), dtype=torch.uint8)
    return Codebook.of(codes, Scales(torch.full((8, 2), 127, dtype=torch.uint8), "e8m0"), "e2m1", torch.float32)


def thin(r: int) -> LowRank:
    return LowRank(torch.randn(8, r), torch.randn(r, 16))


def host(w: Weight) -> dict[str, Host]:
    return {"layer": Linear(w, None, "layer")}


def holds(hosts: dict[str, Host], standing: list[Any]) -> str:
    """The first reason, or nothing."""
    (row,) = check(State(hosts, []), standing)
    return "" if row["holds"] else row["detail"]


def test_a_leaf_keeps_the_promise_of_its_layer() -> None:
    q, m = quantized(), sparse()
    for established, leaf in ((on_grid, q), (masked, m), (on_grid, levels())):
        hosts = host(leaf)
        standing = established(hosts, "step 1")
        for w in (
            leaf,
            Sum([leaf, thin(2)]),
            Chain([leaf, Diagonal(torch.ones(16))]),
            Sum([Sum([leaf, thin(1)]), thin(2)]),
        ):
            hosts["layer"].w = w
            assert holds(hosts, standing) == ""
        for w, why in (
            (Dense(torch.randn(8, 16)), "stored as Dense"),
            (Sum([Dense(leaf.dense()), thin(2)]), "stored as Sum"),
        ):
            hosts["layer"].w = w
            assert why in holds(hosts, standing)
    grid = on_grid(host(q), "step 1")
    wider = Quantized.of(torch.zeros(8, 16, dtype=torch.uint8), torch.ones(8, 4), None, 4)
    assert "on a grid of 4 bits, group 4" in holds(host(Sum([wider, thin(1)])), grid)
    assert holds(host(Sum([wider, q])), grid) == "", "any leaf that meets it will do"
    filled = Masked.of(torch.randn(8, 16), torch.ones(8, 16, dtype=torch.bool))
    assert "keeps 128 weights" in holds(host(Sum([filled, thin(1)])), masked(host(m), "step 1"))


def test_levels_are_watched_by_their_kind_group_bytes_and_scales() -> None:
    w = levels()
    (one,) = on_grid(host(w), "step 1 fp4")
    assert one.expect == {"levels": "e2m1", "group_size": 8, "stored_bits": 8 * (8 * 8 + 8 * 2)}
    assert holds(host(w), [one]) == ""
    assert "stored as Quantized, not on levels" in holds(host(quantized()), [one])
    other = Codebook(w.codes, w.scales, "nf4", torch.float32)
    assert "on levels of nf4, group 8" in holds(host(other), [one])
    single = Codebook(w.codes, Scales(torch.full((8, 1), 127, dtype=torch.uint8), "e8m0"), "e2m1", torch.float32)
    assert "on levels of e2m1, group 16" in holds(host(single), [one])
    wide = Codebook(w.codes, Scales(torch.ones(8, 2), "float32"), "e2m1", torch.float32)
    assert f"takes {8 * (64 + 64)} bits where {one.expect['stored_bits']} were claimed" in holds(host(wide), [one])
    w.scale[3, 1] = 255
    assert "no numbers" in holds(host(w), [one])


def test_what_is_added_is_watched_by_rank_bytes_and_numbers() -> None:
    w = Sum([quantized(), thin(2)])
    (one,) = low_rank(host(w), "step 2 eora")
    assert (one.name, one.address, one.step) == ("low_rank", "layer", "step 2 eora")
    assert one.expect == {"rank": 2, "scale": 1.0, "stored_bits": 32 * 2 * (8 + 16)}
    assert holds(host(w), [one]) == ""
    assert holds(host(Sum([w, thin(5)])), [one]) == ""
    assert "of rank 3 where 2 was claimed" in holds(host(Sum([quantized(), thin(3)])), [one])
    assert "without thin factors" in holds(host(quantized()), [one])
    wide = Sum([quantized(), thin(2).double()])
    assert f"takes {64 * 2 * (8 + 16)} bits" in holds(host(wide), [one])
    bad = thin(2)
    bad.left.data[0, 0] = torch.inf
    assert "no numbers" in holds(host(Sum([quantized(), bad])), [one])
    (later,) = low_rank(host(Sum([w, thin(5)])), "step 3 eora")
    assert later.expect["rank"] == 5, "of two, the one that was added last"
    assert "gone" in holds({}, [one])
    assert low_rank(host(quantized()), "") == []


def test_bits_of_a_layer_count_what_was_added() -> None:
    q = quantized()
    assert bits(Sum([q, thin(2)])) == bits(q) + 32 * 2 * (8 + 16)
    assert on_grid(host(Sum([q, thin(2)])), "")[0].expect["stored_bits"] == bits(q)


def test_every_invariant_that_a_layer_wise_card_establishes_can_be_established() -> None:
    for name in methods.names(controls=True):
        card = methods.get(name).CARD
        assert card.family not in LAYERWISE or set(card.establishes) <= set(LAYERS), name
