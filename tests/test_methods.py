"""The registry: names to classes, knobs to methods and back, and errors that name the knob."""

from __future__ import annotations

import pytest

from trimtab import methods, order
from trimtab.core.errors import BadInput
from trimtab.robust import Noise
from trimtab.tokens import DivPrune, FastV


def test_a_method_is_made_from_a_recipes_knobs() -> None:
    assert methods.make("divprune", {"keep": 0.5}) == DivPrune(0.5)
    assert methods.make("fastv", {"keep": 1, "layer": 3, "queries": "all"}) == FastV(1.0, 3, "all")


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("divprune", {"keep": 0.3}),
        ("fastv", {"keep": 0.5}),
        ("gptq", {"bits": 3}),
        ("rtn", {}),
        ("awq", {"bits": 3}),
        ("nf4", {"double_quant": False}),
        ("fp4", {"format": "mxfp4"}),
        ("mr_gptq", {"rotate": 128}),
        ("sparsegpt", {"keep": 0.5, "pattern": "2:4"}),
        ("eora", {"r": 8}),
        ("svd", {}),
        ("snapkv", {"capacity": 64}),
        ("sinks", {"window": 60}),
        ("kivi", {"bits": 8}),
        ("tome", {"keep": 0.5, "layer": 2}),
    ],
)
def test_knobs_make_the_same_method_again(name: str, knobs: dict[str, object]) -> None:
    method = methods.make(name, knobs)
    written = methods.knobs(method)
    assert written.items() >= knobs.items()
    assert methods.make(method.CARD.name, written) == method


@pytest.mark.parametrize(
    ("name", "knobs", "says"),
    [
        ("divprun", {}, r"method: got 'divprun' \(nearest: 'divprune'\); accepted: .*gptq"),
        ("divprune", {}, r"divprune\.keep: missing"),
        ("divprune", {"keep": 0}, r"divprune\.keep: got 0\.0; accepted: above 0, at most 1"),
        ("divprune", {"keep": "half"}, r"divprune\.keep: got 'half'; .*number"),
        ("divprune", {"kep": 0.5}, r"divprune\.kep: unknown knob \(nearest: 'keep'\); accepted: keep"),
        ("fastv", {"pruning_ratio": 0.5}, r"fastv\.pruning_ratio: .*always 'keep', the share that stays"),
        ("fastv", {"sparsity": 0.5}, r"fastv\.sparsity: .*'keep'"),
        ("fastv", {"rate": 0.5}, r"fastv\.rate: .*'keep'"),
        ("fastv", {"ratio": 0.5}, r"fastv\.ratio: .*'keep'"),
        ("fastv", {"keep": 0.5, "layer": 0}, r"fastv\.layer: got 0; accepted: 1 or more"),
        ("fastv", {"keep": 0.5, "layer": True}, r"fastv\.layer: got True"),
        ("fastv", {"keep": 0.5, "queries": "first"}, r"fastv\.queries: got 'first'; .*'last' or 'all'"),
        ("gptq", {"wbits": 4}, r"gptq\.wbits: unknown knob \(here it is called 'bits'\)"),
        ("nf4", {"bnb_4bit_use_double_quant": True}, r"nf4\.bnb_4bit_.*'double_quant'"),
        ("fp4", {"format": "mxfp8"}, r"fp4\.format: got 'mxfp8'; .*'mxfp4' or 'nvfp4'"),
        ("mr_gptq", {"hadamard_group_size": 32}, r"mr_gptq\.hadamard_group_size: .*'rotate'"),
        ("mr_gptq", {"rotate": 24}, r"mr_gptq\.rotate: got 24 for a row of 128; accepted: 0 \(none\), 16, 32, 64, 128"),
        ("gptq", {"w_bit": 4}, r"gptq\.w_bit: .*'bits'"),
        ("gptq", {"groupsize": 64}, r"gptq\.groupsize: .*'group_size'"),
        ("rtn", {"q_group_size": 64}, r"rtn\.q_group_size: .*'group_size'"),
        ("gptq", {"percdamp": 0.1}, r"gptq\.percdamp: .*'damp_percent'"),
        ("rtn", {"percdamp": 0.1}, r"rtn\.percdamp: unknown knob; accepted: bits"),
        ("gptq", {"bits": 5}, r"gptq\.bits: got 5; accepted: 2, 3, 4, 8"),
        ("gptq", {"bits": "4"}, r"gptq\.bits: got '4'; .*integer"),
        ("gptq", {"group_size": 0}, r"gptq\.group_size: got 0"),
        ("awq", {"w_bit": 4}, r"awq\.w_bit: .*'bits'"),
        ("sparsegpt", {"percdamp": 0.1}, r"sparsegpt\.percdamp: .*'damp_percent'"),
        ("sparsegpt", {"sparsity": 0.5}, r"sparsegpt\.sparsity: .*always 'keep'"),
        ("sparsegpt", {"prunen": 2}, r"sparsegpt\.prunen: .*'pattern'"),
        ("sparsegpt", {"damp_percent": -1.0}, r"sparsegpt\.damp_percent: got -1"),
        ("wanda", {"r": 0.5}, r"wanda\.r: .*always 'keep'"),
        ("eora", {"rank": 8}, r"eora\.rank: .*'r'"),
        ("eora", {"lora_rank": 8}, r"eora\.lora_rank: .*'r'"),
        ("eora", {"eora_rank": 8}, r"eora\.eora_rank: .*'r'"),
        ("eora", {"r": 0}, r"eora\.r: got 0"),
        ("eora", {"r": 2.5}, r"eora\.r: got 2\.5; .*integer"),
        ("svd", {"rank": 8}, r"svd\.rank: .*'r'"),
        ("gptq", {"damp_percent": 2.0}, r"gptq\.damp_percent: got 2\.0"),
        ("noise", {}, r"noise\.severity: missing"),
        ("noise", {"severity": 6}, r"noise\.severity: got 6; accepted: 1, 2, 3, 4, 5"),
        ("blur", {"severity": 2.5}, r"blur\.severity: got 2\.5"),
        ("jpeg", {"quality": 10}, r"jpeg\.quality: unknown knob; accepted: severity"),
        ("snapkv", {}, r"snapkv\.capacity: missing"),
        ("snapkv", {"capacity": 16}, r"snapkv\.capacity: got 16; accepted: more than the window of 32"),
        ("snapkv", {"capacity": 64, "window_size": 8}, r"snapkv\.window_size: .*'window'"),
        ("snapkv", {"capacity": 64, "kernel_size": 7}, r"snapkv\.kernel_size: .*'kernel'"),
        ("sinks", {"start_size": 4}, r"sinks\.start_size: .*'sinks'"),
        ("sinks", {"recent_size": 9}, r"sinks\.recent_size: .*'window'"),
        ("kivi", {"residual_length": 128}, r"kivi\.residual_length: .*'residual'"),
        ("kivi", {"k_bits": 2}, r"kivi\.k_bits: .*'bits'"),
        ("kivi", {"bits": 3}, r"kivi\.bits: got 3; accepted: 2, 4, 8"),
        ("tome", {"keep": 0.5, "r": 8}, r"tome\.r: .*'keep'"),
    ],
)
def test_a_bad_step_says_what_is_wrong(name: str, knobs: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        methods.make(name, knobs)


def test_controls_can_be_made_but_are_not_published() -> None:
    assert "random_tokens" not in methods.names()
    assert "random_tokens" not in methods.cards()
    assert methods.make("random_tokens", {"keep": 0.5}).CARD.name == "random_tokens"


def test_what_measures_is_a_method_and_no_step() -> None:
    assert set(methods.of("robust")) <= set(methods.names())
    assert methods.make("noise", {"severity": 2}) == Noise(2)
    assert methods.step("random_tokens", {"keep": 0.5}) == methods.make("random_tokens", {"keep": 0.5})
    with pytest.raises(
        BadInput, match=r"steps: 'noise' changes no model; .*evaluate: \{robust: \{corruptions: \[noise"
    ):
        methods.step("noise", {"severity": 2})
    with pytest.raises(BadInput, match=r"method: got 'noize'.*gptq") as caught:
        methods.step("noize", {})
    assert "noise" not in str(caught.value), "no step is called so"
    assert not {"noise", "blur"} & set(order.after("gptq"))


def test_why_a_step_may_not_follow_is_said() -> None:
    found = {row["name"]: row for row in order.following("gptq")}
    assert found["divprune"]["on the same layers"] == found["eora"]["on the same layers"] == "yes"
    assert found["wanda"]["on the same layers"] == "no"
    assert "undo on_grid of gptq; part their layers with targets" in found["wanda"]["why not"]
    assert not {"noise", "blur"} & set(found)
    assert "or put merge between" in {r["name"]: r for r in order.following("lora")}["gptq"]["why not"]


def test_what_may_follow_what() -> None:
    """Token policies leave a grid alone; a quantizer makes its own."""
    assert set(order.after("gptq")) >= {"divprune", "fastv", "gptq", "rtn"}
    assert set(order.after("divprune")) >= {"fastv", "divprune", "tome", "snapkv"}
    steps = {name for name, card in methods.cards().items() if card.family in methods.STEPS}
    assert {name for name in steps if "eora" not in order.after(name)} == {
        "lora",
        "load_adapter",
        "w8a8",
        "w8a8_static",
        "smoothquant",
    }
    assert set(order.after("snapkv")) == steps
