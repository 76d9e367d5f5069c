"""Operations traced on the meta device against those of the model itself, counted as it runs."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.core.blocks import Blocks
from trimtab.core.errors import Refused
from trimtab.core.factors import LowRank
from trimtab.core.joins import Chain, Hadamard, Sum
from trimtab.core.linear import Linear
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized
from trimtab.measure.flops import count
from trimtab.measure.phases import phases, words
from trimtab.measure.trace import tracing
from trimtab.measure.work import CODES4, CODES8, OTHER, PRUNED, pieces


def emptied(model: nn.Module) -> None:
    """Every parameter on meta: what planning has."""
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[name] = nn.Parameter(value.to("meta"), requires_grad=False)


@pytest.mark.parametrize("name", tiny.MODELS)
def test_flops_of_shapes_alone_are_those_of_the_model_that_runs(name: str) -> None:
    model, batch = tiny.make(name)
    anatomy = anatomies.of(model)
    slots = Slots() if anatomy.decodes else None
    with torch.no_grad():
        whole = count(lambda: prefill(anatomy, batch, (), slots, logits_to_keep=1))
        word = count(lambda: step(anatomy, batch["input_ids"][:, -1:], slots)) if slots is not None else 0
    emptied(model)
    found = phases(anatomy, batch)
    told = {phase: sum(one.flops for one in operations) for phase, operations in found.items()}
    assert told.get("vision", 0) + told["prefill"] == whole > 0
    assert told.get("decode", 0) == word


@pytest.mark.parametrize("name", ["llama", "gemma3", "smolvlm"])
def test_a_model_is_left_as_it_was_and_a_real_one_is_traced_alike(name: str) -> None:
    model, batch = tiny.make(name)
    anatomy = anatomies.of(model)
    with torch.no_grad():
        wanted = prefill(anatomy, batch).logits
        real = phases(anatomy, batch)
        assert torch.equal(prefill(anatomy, batch).logits.nan_to_num(), wanted.nan_to_num())
    emptied(model)
    bare = phases(anatomy, batch)
    for phase, operations in bare.items():
        assert Counter((one.name, one.kind, one.flops) for one in operations if one.flops) == Counter(
            (one.name, one.kind, one.flops) for one in real[phase] if one.flops
        )


def test_each_linear_is_read_once_and_belongs_to_its_part() -> None:
    model, batch = tiny.make("llava")
    anatomy = anatomies.of(model)
    with tracing(anatomy) as trace:
        prefill(anatomy, batch)
    products = [one for one in trace.operations if one.kind == "product"]
    idle = set(anatomy.idle())
    assert sorted(one.name for one in products) == sorted(name for name, _ in anatomy.linears() if name not in idle)
    assert all(one.part == anatomy.part_of(one.name) for one in products)
    sizes = {name: host.w.shape[0] * host.w.shape[1] for name, host in anatomy.linears()}
    assert all(one.weights == sizes[one.name] * 4 for one in products)  # float32
    assert all(one.flops == 2 * one.rows * sizes[one.name] for one in products)
    views = {"aten.view", "aten.transpose", "aten.expand", "aten.unsqueeze", "aten.slice", "aten.permute"}
    assert not views & {one.kind for one in trace.operations}, "nothing is moved by looking at it otherwise"
    inside = [one for one in trace.operations if one.kind == "aten.mul" and one.part == "language"]
    assert inside
    assert {one.name.rpartition(".")[2] for one in inside} & {"mlp", "input_layernorm", "self_attn"}


def test_attention_says_what_its_mask_lets_see() -> None:
    model, _ = tiny.make("llama")
    anatomy = anatomies.of(model)
    config = model.config
    rows = 6
    seen = [one for one in phases(anatomy, words(rows))["prefill"] if one.kind == "attention"]
    assert len(seen) == config.num_hidden_layers
    assert all(one.share == pytest.approx((rows + 1) / (2 * rows)) for one in seen)
    padded = words(rows, 2)
    padded["attention_mask"] = torch.ones_like(padded["attention_mask"])
    padded["attention_mask"][0, :2] = 0
    masked = [one for one in phases(anatomy, padded)["prefill"] if one.kind == "attention"]
    real = sum(n * (n + 1) / 2 for n in (rows - 2, rows)) + 2 * 2  # padding sees itself, and the first word
    assert all(one.share == pytest.approx(real / (2 * rows * rows)) for one in masked)
    word = [one for one in phases(anatomy, words(rows))["decode"] if one.kind == "attention"]
    assert all((one.rows, one.entries) == (1, rows + 1) for one in word)


def test_work_of_every_stored_form_is_its_bytes() -> None:
    torch.manual_seed(0)
    w = torch.randn(8, 32)
    codes = Quantized.of(torch.randint(0, 16, (8, 32), dtype=torch.uint8), torch.rand(8, 2).bfloat16(), None, 4)
    eight = Quantized.of(torch.randint(0, 256, (8, 32), dtype=torch.uint8), torch.rand(8, 1).bfloat16(),
                         torch.zeros(8, 1, dtype=torch.uint8), 8)  # fmt: skip
    mask = torch.zeros(8, 32, dtype=torch.bool)
    mask[:, ::2] = True
    half = Masked.of(w.bfloat16(), mask)
    thin = LowRank(torch.randn(8, 3), torch.randn(3, 32))
    both = pieces(Linear(Sum([codes, thin]), None, "x"))
    assert [one.form for one in both] == [CODES4, "float32", "float32"]
    assert [one.bytes for one in both] == [8 * 16 + 8 * 2 * 2, 3 * 32 * 4, 8 * 3 * 4]
    assert [(one.form, one.bytes) for one in pieces(Linear(eight, None, "x"))] == [(CODES8, 8 * 32 + 8 * 3)]
    assert [(one.form, one.bytes) for one in pieces(Linear(half, None, "x"))] == [(PRUNED, 8 * 16 * 2 + 8 * 4)]
    assert [(one.form, one.bytes) for one in pieces(Linear(Dense(w), None, "x"))] == [("float32", 8 * 32 * 4)]
    turned = pieces(Linear(Chain([codes, Blocks(32, 8)]), None, "x"))
    assert [(one.form, one.shape) for one in turned] == [(CODES4, (8, 32)), ("float32", (32, 8))]
    product = Hadamard([Dense(w), codes])
    assert [(one.form, one.bytes) for one in pieces(Linear(product, None, "x"))] == [(OTHER, 8 * 32 * 4 + 160.0)]


def test_what_asks_for_values_is_named() -> None:
    model, _ = tiny.make("llama")
    anatomy = anatomies.of(model)
    emptied(model)
    ids = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(Refused, match="model asks for a value"), tracing(anatomy):
        float(model.model.embed_tokens(ids).sum())
