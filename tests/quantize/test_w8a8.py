"""W8A8 in a model: what its hosts do to their inputs, what the artifact says of it, and what may stand beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.core.acts import LONGEST, DynamicInt8
from trimtab.core.errors import BadInput
from trimtab.core.fit import Site
from trimtab.core.linear import Linear
from trimtab.core.weight import Dense, Quantized, bits
from trimtab.quantize import RTN, W8A8, SmoothQuant
from trimtab.run.adapt import unrounded
from trimtab.run.follow import clashes
from trimtab.run.invariants import LAYERS, State, check
from trimtab.run.recipe import Recipe
from trimtab.run.walk import walk

EVERYTHING = ["language", "vision", "projector", "embedding", "head"]


def made(name: str = "llava") -> tuple[Any, dict[str, Tensor]]:
    model, batch = tiny.make(name)
    return anatomies.of(model), batch


def test_bytes_are_a_quarter_of_32_bits_and_a_scale_for_each_row() -> None:
    w = torch.randn(24, 96)
    fitted = W8A8()(Dense(w), Site("layer", lambda: w))
    assert isinstance(fitted, Quantized)
    assert bits(fitted) == 32 * w.numel() / 4 + 24 * 32
    assert (fitted.dense() - w).abs().amax(1).le(fitted.scale[:, 0] / 2 * 1.001).all()


def test_the_answer_is_within_half_a_step_of_each_factor() -> None:
    """|y - W x| <= sum_j |x_j| s/2 + |w_j| t/2 + s t/4, for every token and row, in float64."""
    w, x = torch.randn(24, 96), torch.randn(50, 96) * torch.logspace(-1, 1, 96)
    fitted = W8A8()(Dense(w), Site("layer", lambda: w))
    assert isinstance(fitted, Quantized)
    t, s = x.abs().amax(1, keepdim=True).double() / 127, fitted.scale.double().T
    bound = x.double().abs().sum(1, keepdim=True) * s / 2 + w.double().abs().sum(1) * t / 2 + 96 * s * t / 4
    error = (DynamicInt8()(fitted, x).double() - x.double() @ w.double().T).abs()
    assert (error <= bound * 1.0001).all()
    assert error.max() > 0


@pytest.mark.parametrize("fit", [W8A8(), SmoothQuant()])
@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2.5-vl"])
def test_every_linear_that_is_fitted_rounds_its_input_and_no_table_does(name: str, fit: Any) -> None:
    anatomy, batch = made(name)
    with torch.no_grad():
        before = anatomy.model(**batch).logits
        walk(anatomy, [batch], fit, ["language", "embedding", "head"])
        after = anatomy.model(**batch).logits
    linears = {path: host for path, host in anatomy.linears() if anatomy.part_of(path) in ("language", "head")}
    assert all(host.acts == DynamicInt8() for host in linears.values())
    assert all(host.acts is None for path, host in anatomy.linears() if path not in linears)
    mask = batch["attention_mask"].bool()
    assert 0 < (after - before)[mask].norm() < 0.1 * before[mask].norm()
    (second,) = {path for path, _ in anatomy.linears() if path.endswith("layers.1.mlp.down_proj") and path in linears}
    walk(anatomy, [batch], RTN(4, 8), [second])
    assert linears[second].acts is None, "another method's weight has no rounded input"


def test_the_walk_gathers_the_inputs_as_they_come_and_rounds_behind_the_tap() -> None:
    anatomy, batch = made("llama")
    walk(anatomy, [batch], W8A8(), ["language"])
    seen: dict[str, Tensor] = {}
    for _, host in anatomy.linears():
        host.tap = lambda one, x: seen.__setitem__(one.name, x.detach().clone())
    with torch.no_grad():
        anatomy.model(**batch)
    for name, x in seen.items():
        levels = [len(row.unique()) for row in x.flatten(0, -2).float()]
        assert max(levels) == x.shape[-1], f"{name}: values that no grid of its own explains"


def test_the_invariant_stands_until_the_rounding_or_its_weight_goes() -> None:
    anatomy, batch = made()
    walk(anatomy, [batch], W8A8(), ["language"])
    hosts: dict[str, Any] = {**dict(anatomy.linears()), **dict(anatomy.embeddings())}
    standing = LAYERS["acts_8bit"](hosts, "step 1 w8a8")
    assert {one.address for one in standing} == {path for path, h in anatomy.linears() if h.acts is not None}
    (row,) = check(State(hosts, []), standing)
    assert row["holds"]
    first, second, *_ = (hosts[one.address] for one in standing)
    first.acts = None
    second.w = RTN(4, 8)(second.w, Site("", second.w.dense))
    (row,) = check(State(hosts, []), standing)
    assert f"{len(standing) - 2} of {len(standing)} hold" in row["detail"]
    assert "its input is not rounded" in row["detail"]
    assert "accepted: 8 bits, symmetric" in row["detail"]


@pytest.mark.parametrize(
    ("later", "says"),
    [
        ({"lora": {"r": 2, "target_modules": ["language"]}}, "acts_8bit"),
        ({"svd": {"r": 2}}, "acts_8bit"),
        ({"eora": {"r": 2}}, "acts_8bit"),
        ({"wanda": {"keep": 0.5}}, "on_grid"),
        ({"rtn": {"bits": 4, "group_size": 8}}, "on_grid"),
        ({"smoothquant": {}}, "on_grid"),
        ({"w8a8": {}}, "on_grid"),
    ],
)
@pytest.mark.parametrize("first", ["w8a8", "smoothquant"])
def test_what_would_undo_it_is_refused_before_any_work(first: str, later: dict[str, Any], says: str) -> None:
    steps = [{first: {"targets": ["language"]}}, {k: v | {"targets": ["language"]} if k != "lora" else v
                                                  for k, v in later.items()}]  # fmt: skip
    parsed = Recipe.parse({"model": "x", "task": {"dataset": "easyvqa"}, "steps": steps})
    (clash,) = clashes(made()[0], parsed.steps)
    assert f"steps.0.{first} established '{says}'" in clash


@pytest.mark.parametrize("step", ["lora", "load_adapter"])
def test_no_adapter_is_put_beside_rounded_inputs_of_an_artifact(step: str) -> None:
    anatomy, batch = made()
    walk(anatomy, [batch], W8A8(), ["layers.1.mlp.down_proj"])
    with pytest.raises(BadInput, match=rf"{step}: .*layers\.1\.mlp\.down_proj rounds its input to 8 bits"):
        unrounded(step, dict(anatomy.linears()))
    unrounded(step, {path: host for path, host in anatomy.linears() if "layers.0" in path})


def test_policies_may_follow_and_merged_adapters_come_before() -> None:
    lora = {"lora": {"r": 2, "target_modules": ["language"]}}
    steps = [lora, {"merge": {}}, {"w8a8": {}}, {"divprune": {"keep": 0.5}}, {"snapkv": {"capacity": 64}}]
    parsed = Recipe.parse({"model": "x", "task": {"dataset": "easyvqa"}, "steps": steps})
    assert list(clashes(made()[0], parsed.steps)) == []


def test_rows_whose_sums_do_not_fit_are_refused_before_work() -> None:
    for fit in (W8A8(), SmoothQuant()):
        fit.check(LONGEST)
        with pytest.raises(ValueError, match=f"got rows of {LONGEST + 1}; accepted: up to {LONGEST}"):
            fit.check(LONGEST + 1)


def test_a_host_is_plain_until_a_method_says_otherwise() -> None:
    assert Linear(Dense(torch.randn(2, 4)), None, "layer").acts is None
