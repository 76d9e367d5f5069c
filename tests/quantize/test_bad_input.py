"""What quantizers do with weights, inputs and layers that are not as they should be: each is named, none passes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

import trimtab.quantize
from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy import tiny
from trimtab.core.errors import Anomaly, BadInput, Refused
from trimtab.core.fit import Fit, Site
from trimtab.core.reservoir import Reservoir
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import KINDS, Gram
from trimtab.core.weight import Dense
from trimtab.quantize import RTN
from trimtab.run import said
from trimtab.run.recipe import Recipe
from trimtab.run.walk import walk
from trimtab.run.weigh import maker

QUANTIZERS = [name for name in trimtab.quantize.METHODS if name != "mixed"]
"""A mixed step rounds by the others, once a pass has given each layer its bits (tests/run/test_allocate.py); what it
does not leave to them, it refuses as they do."""
EVERY = [*QUANTIZERS, "mixed"]
FED = [name for name in QUANTIZERS if methods.get(name).CARD.needs != "nothing"]


def make(name: str, **knobs: Any) -> Fit:
    """With groups that fit tiny rows."""
    accepted = {field.name for field in fields(methods.get(name))}
    usual = ({"group_size": 8} if "group_size" in accepted else {}) | ({"bits": 8.5} if name == "mixed" else {})
    return methods.make(name, usual | knobs)


def walked(anatomy: Any, batches: list[dict[str, Tensor]], fit: Fit, targets: list[str], **more: Any) -> Any:
    """A walk that gives each method what its card asks for, rows and gradients as well; all tokens count alike."""
    names = tuple(block.name for block in anatomy.blocks())
    even = torch.ones(len(names) + 1, len(KINDS))
    known = Sensitivity(names, even, even, (1,) * len(KINDS))
    given = {"sensitivity": known, "make": maker(anatomy, fit, "pooled", known)}
    return walk(anatomy, batches, fit, targets, **given, **more)


def llama() -> tuple[Any, list[dict[str, Tensor]]]:
    model, batch = tiny.make("llama")
    return anatomies.of(model), [batch]


def hosts(anatomy: Any) -> dict[str, Any]:
    return dict(anatomy.linears()) | dict(anatomy.embeddings())


def site(w: Tensor, x: Tensor) -> Site:
    gram, even = Gram(x.shape[1], sample=Reservoir(x.shape[1])), torch.ones(2, len(KINDS))
    gram.add(x, torch.zeros(len(x), dtype=torch.int64))
    return Site("layer", lambda: w, gram, sensitivity=Sensitivity(("layer",), even, even, (1,) * len(KINDS)))


@pytest.mark.parametrize("name", EVERY)
def test_channels_of_zeros_stay_zeros(name: str) -> None:
    w, x = torch.randn(16, 64), torch.randn(300, 64)
    w[3], w[:, 10], x[:, 20:30] = 0, 0, 0
    found = make(name)(Dense(w), site(w, x)).dense()
    assert found.isfinite().all()
    assert (found[3] == 0).all()
    assert (found - w).abs().max() < 1
    nothing = torch.zeros(16, 64)
    assert (make(name)(Dense(nothing), site(nothing, x)).dense() == 0).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", EVERY)
def test_weights_that_are_no_numbers_are_refused_before_any_work(name: str, bad: float) -> None:
    anatomy, batches = llama()
    up, table = hosts(anatomy)["model.layers.1.mlp.up_proj"], hosts(anatomy)["model.embed_tokens"]
    with torch.no_grad():
        up.w.value[[2, 5], 3] = bad
        up.w.value[5, 4] = -bad
        table.w.value[7, 0] = bad
    with pytest.raises(BadInput) as caught:
        walked(anatomy, batches, make(name), ["language", "embedding"])
    said = str(caught.value)
    assert f"layers.1.mlp.up_proj: 2 of {up.w.shape[0]} output channels hold 3 weights that are NaN or infinite" in said
    assert "first: channel 2" in said
    assert f"embed_tokens: 1 of {table.w.shape[0]} output channels hold 1 weights" in said
    assert "first: channel 7" in said
    assert all(isinstance(host.w, Dense) for host in hosts(anatomy).values())


@pytest.mark.parametrize("max_tokens", [10**6, 1])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", [*FED, "mixed"])
def test_inputs_that_are_no_numbers_name_their_layer(name: str, bad: float, max_tokens: int) -> None:
    anatomy, batches = llama()
    with torch.no_grad():
        anatomy.model.model.layers[1].post_attention_layernorm.weight[4] = bad
    width = anatomy.model.config.hidden_size
    wanted = rf"layers\.1\.mlp\.gate_proj: 1 of {width} input channels held NaN or infinite .*first: channel 4"
    with pytest.raises(Anomaly, match=wanted):
        walked(anatomy, batches, make(name), LAYER, max_tokens=max_tokens)
    assert isinstance(hosts(anatomy)["model.layers.1.mlp.gate_proj"].w, Dense), "what was not fitted stays"


UNEVEN = {name: {"format": "mxfp4"} for name in ("fp4", "mr_gptq")}
"""Rows of 32 and 48 inputs: groups of 32 divide the first alone, the usual ones of 24 the second alone. W8A8, its kin
and FineQuant have no such groups."""
GROUPED = [name for name in EVERY if name in UNEVEN or "group_size" in {f.name for f in fields(methods.get(name))}]


@pytest.mark.parametrize("name", [name for name in GROUPED if name != "finequant"])
def test_groups_that_do_not_divide_a_row_are_refused_by_layer_before_any_work(name: str) -> None:
    anatomy, batches = llama()
    with pytest.raises(BadInput) as caught:
        walked(anatomy, batches, make(name, **UNEVEN.get(name, {"group_size": 24})), ["language"])
    first, wrong = str(caught.value).splitlines()[0], (48, "mxfp4") if name in UNEVEN else (32, "24")
    layer = "mlp.down_proj" if name in UNEVEN else "self_attn.q_proj"
    assert first.startswith(f"model.layers.0.{layer}: ")
    assert f"got {wrong[1]} for a row of {wrong[0]}" in first
    assert ("accepted there: nvfp4" if name in UNEVEN else "nearest that divides it: 16") in first
    assert all(isinstance(host.w, Dense) for host in hosts(anatomy).values())


EXPERT = [f"model.layers.1.mlp.{part}_proj" for part in ("gate", "up", "down")]
LAYER = [r"layers\.1\..*"]


def dead_branch() -> tuple[Any, list[dict[str, Tensor]]]:
    """A model of which one branch never runs, as an expert that no token chooses."""
    anatomy, batches = llama()
    anatomy.model.model.layers[1].mlp.forward = torch.zeros_like
    return anatomy, batches


@pytest.mark.parametrize(("name", "max_tokens"), [*((name, 10**6) for name in FED), ("gptq", 1)])
def test_a_branch_that_calibration_never_reached_is_named_left_or_rounded(name: str, max_tokens: int) -> None:
    anatomy, batches = dead_branch()
    with pytest.raises(Refused, match=r"layers\.1\.mlp\.gate_proj: no .*unseen: dense .*or round"):
        walked(anatomy, batches, make(name), LAYER, max_tokens=max_tokens)

    anatomy, batches = dead_branch()
    before = {path: hosts(anatomy)[path].w for path in EXPERT}
    reports = {r.name: r for r in walked(anatomy, batches, make(name), LAYER, max_tokens=max_tokens, unseen="dense")}
    for path in EXPERT:
        assert hosts(anatomy)[path].w is before[path]
        assert (reports[path].error, reports[path].bits, set(reports[path].seen.values())) == (0.0, 32.0, {0})
        assert reports[path].unreached == "left as it was"
    others = [path for path, host in anatomy.linears() if "layers.1." in path and path not in EXPERT]
    assert all(not isinstance(hosts(anatomy)[path].w, Dense) for path in others)
    assert {reports[path].unreached for path in others} == {""}

    anatomy, batches = dead_branch()
    fit = make(name)
    reports = {r.name: r for r in walked(anatomy, batches, fit, LAYER, max_tokens=max_tokens, unseen="round")}
    for path in EXPERT:
        plain = fit.without_data()(before[path], Site("", before[path].dense))  # type: ignore[attr-defined]
        assert torch.equal(hosts(anatomy)[path].w.dense(), plain.dense())
        assert reports[path].unreached == "rounded without data"


def test_a_recipe_says_what_becomes_of_what_is_unseen() -> None:
    def unreached(**calibrate: str) -> str:
        plain = {"model": "x", "task": {"dataset": "easyvqa"}, "steps": ["gptq"], "calibrate": calibrate}
        recipe = Recipe.parse(plain)
        assert Recipe.read(recipe.dump()) == recipe
        return recipe.calibrate.unreached

    assert unreached() == "refuse"
    assert unreached(unseen="dense") == "dense"
    assert unreached(unseen="round") == "round"
    assert unreached(allow="text_only") == "round"
    assert unreached(allow="text_only", unseen="dense") == "dense"
    with pytest.raises(BadInput, match=r"calibrate\.unseen: got 'skip'; .*'refuse', 'dense' or 'round'"):
        unreached(unseen="skip")
    with pytest.raises(BadInput, match=r"calibrate\.unsen: unknown key \(nearest: 'unseen'\)"):
        unreached(unsen="dense")


@pytest.mark.parametrize("name", ["gptq", "quantease", "mr_gptq", "sparsegpt"])
def test_a_singular_hessian_is_damped_and_the_report_says_how_much(name: str) -> None:
    """Three tokens cannot show more than three directions of inputs that are wider."""
    reports = {}
    for damp in (0.0, 0.01):
        anatomy, _ = llama()
        few = {"input_ids": torch.tensor([[3, 4, 5]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
        reports[damp] = walk(anatomy, [few], make(name, damp_percent=damp), [r"layers\.0\..*"])
        assert all(host.w.dense().isfinite().all() for _, host in anatomy.linears())
    assert {r.damp for r in reports[0.01]} == {0.01}
    assert all(r.damp is not None and 1e-4 <= r.damp <= 1 for r in reports[0.0])
    rows = [{"name": r.name, "damp": r.damp} for r in reports[0.0]]
    text = said.damping(rows, 0.0)
    assert text.startswith(f"H was singular on {len(rows)} layers")
    assert f"model.layers.0.self_attn.q_proj {rows[0]['damp']:g}" in text


def test_without_data_nothing_is_damped() -> None:
    anatomy, _ = llama()
    assert {r.damp for r in walk(anatomy, [], RTN(4, 8), ["language"])} == {None}


def test_what_is_said_of_damping_unreached_layers_and_missing_samples() -> None:
    rows = [{"name": f"layer{i}", "damp": 0.01, "step": "step 1 gptq", "unreached": ""} for i in range(9)]
    assert said.damping(rows, 0.01) == "H was damped by 0.01 of its mean diagonal on 9 layers."
    rows[4]["damp"] = 0.1
    assert said.damping(rows, 0.01) == (
        "H was damped by 0.01 of its mean diagonal on 8 layers. H was singular on 1 layer (their inputs depend on one "
        "another over calibration) and damped by more than 0.01: layer4 0.1."
    )
    assert said.damping([{"name": "a", "damp": None}], 0.01) == said.damping(rows, None) == ""
    assert said.unreached(rows) == []
    for row in rows[:7]:
        row["unreached"] = "left as it was"
    assert said.unreached(rows) == [
        "No calibration sample reached 7 layers (step 1 gptq, left as it was): layer0, layer1, layer2, layer3, layer4, "
        "layer5, and 1 more."
    ]
    assert said.samples({"asked": 128, "found": 40}) == [
        "calibrate.num_samples asked for 128 samples; the data have 40, and all were used."
    ]
    assert said.samples({"asked": 40, "found": 40}) == said.samples({"asked": None}) == []
