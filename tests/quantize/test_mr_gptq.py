"""What is special to MR-GPTQ: scales fixed before the sweep, an order that moves no group, rotated inputs, and the gap
between its two formats in a language model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from calibrated import gram_of, inputs
from trimtab import anatomy
from trimtab.anatomy import tiny
from trimtab.core.blocks import Blocks
from trimtab.core.codebook import Codebook
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.fit import Fit, Site
from trimtab.core.hessian import rooted
from trimtab.core.joins import leaves
from trimtab.core.pack import unpack
from trimtab.core.weight import Dense, Weight
from trimtab.export.state import dense_state
from trimtab.quantize import FP4, MRGPTQ
from trimtab.quantize import mr_gptq as module
from trimtab.run.walk import walk


def fitted(w: Tensor, x: Tensor, **knobs: object) -> Weight:
    return MRGPTQ(**knobs)(Dense(w), Site("layer", lambda: w, gram_of(x)))  # type: ignore[arg-type]


def leaf(w: Weight) -> Codebook:
    found = next(leaves(w))
    assert isinstance(found, Codebook)
    return found


@pytest.mark.parametrize(("format", "rotate"), [("mxfp4", 32), ("nvfp4", 16), ("nvfp4", 0)])
def test_scales_are_those_of_rounding_to_nearest_and_codes_are_not(format: str, rotate: int) -> None:
    w, x = torch.randn(24, 64), inputs(300, 64)
    ours = leaf(fitted(w, x, format=format, rotate=rotate))
    plain = leaf(FP4(format, rotate)(Dense(w), Site("layer", lambda: w)))  # type: ignore[arg-type]
    assert torch.equal(ours.scales.read(slice(None)), plain.scales.read(slice(None)))
    changed = (unpack(ours.codes, 4) != unpack(plain.codes, 4)).any(0)
    turned = x @ Blocks(64, rotate or 1).dense()
    first = turned.square().sum(0).argmax()
    assert not changed[first], "the input of largest second moment comes first and is only rounded"
    assert changed.float().mean() > 0.8


def test_blocks_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = torch.randn(21, 96), inputs(400, 96)
    found = []
    for block, chunk in ((128, 4096), (1, 4096), (7, 4096), (128, 5)):
        monkeypatch.setattr(module, "BLOCK", block)
        monkeypatch.setattr(module, "CHUNK", chunk)
        found.append(leaf(fitted(w, x, format="mxfp4", rotate=32)).codes)
    assert all(torch.equal(codes, found[0]) for codes in found)


def test_inputs_that_cancel_or_are_dead_are_borne() -> None:
    """Alike in a block, so that all but one of their mixtures are 0; always 0 in a whole block, and in part of one."""
    w, x = torch.randn(8, 64), inputs(200, 64)
    x[:, :16] = torch.randn(200, 1)
    x[:, 16:32] = 0
    x[:, 40:44] = 0
    made, plain = fitted(w, x), FP4(rotate=16)(Dense(w), Site("layer", lambda: w))
    assert made.dense().isfinite().all()
    ours, theirs = (((one.dense() - w) @ x.T).square().sum() for one in (made, plain))
    assert ours < 0.8 * theirs


def test_linears_that_share_an_input_share_its_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only what is the same: another rotation or damping has a root of its own."""
    x, calls = inputs(200, 64), []
    monkeypatch.setattr(module, "rooted", lambda *given: calls.append(given) or rooted(*given))
    shared, knobs = gram_of(x), ({"rotate": 16}, {"rotate": 32}, {"rotate": 16, "damp_percent": 0.1})
    for w in (torch.randn(8, 64), torch.randn(16, 64)):
        for chosen in knobs:
            site = Site("layer", w.clone, shared)
            made = MRGPTQ(**chosen)(Dense(w), site)
            torch.testing.assert_close(made.dense(), fitted(w, x, **chosen).dense(), rtol=0, atol=0)
            assert site.notes["damp_percent"] == pytest.approx(chosen.get("damp_percent", 0.01))
    assert len(calls) == len(knobs) + 2 * len(knobs), "once for each, and once for every fit of its own"


def test_bad_statistics_name_the_layer() -> None:
    w = torch.randn(8, 32)
    with pytest.raises(BadInput, match="layer: mr_gptq needs calibration data"):
        MRGPTQ()(Dense(w), Site("layer", lambda: w))
    with pytest.raises(Anomaly, match="layer: the second moment of the input is not finite"):
        fitted(w, torch.full((4, 32), torch.nan))


@torch.no_grad()
def test_a_whole_model_through_a_walk_is_the_one_of_its_dense_matrices() -> None:
    """Embedding (of which no input is seen, so it is rounded to nearest), layers and head."""
    model, batch = tiny.make("llama")
    other, _ = tiny.make("llama", seed=1)
    reports = walk(anatomy.of(model), [batch], MRGPTQ(), ("language", "embedding", "head"))
    hosts = [*anatomy.of(model).linears(), *anatomy.of(model).embeddings()]
    assert len(reports) == len(hosts) == 4 * 7 + 2
    for name, host in hosts:
        leaf, behind = leaves(host.w)
        assert isinstance(leaf, Codebook), name
        assert isinstance(behind, Blocks), name
    assert all(0 < report.error < 0.2 for report in reports)
    assert all(report.bits == 4.5 + 32 / (dict(hosts)[report.name].w.shape[0] * dict(hosts)[report.name].w.shape[1])
               for report in reports)  # fmt: skip
    other.load_state_dict(dense_state(model))
    torch.testing.assert_close(model(**batch).logits, other(**batch).logits, rtol=1e-4, atol=1e-4)


def language() -> LlamaForCausalLM:
    """A small Llama of long-tailed random weights: the language that it speaks is its own."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False,
        )
    )  # fmt: skip
    for name, value in model.named_parameters():
        if name == "model.embed_tokens.weight":
            value.normal_()
        elif value.ndim == 2:
            size = (1.5 if name == "lm_head.weight" else 0.7) * value.shape[1] ** -0.5
            value.copy_(size * torch.distributions.Laplace(0.0, 1.0).sample(value.shape))
    return model.eval()


def spoken(model: LlamaForCausalLM, rows: int) -> Tensor:
    """Texts of 24 words, each drawn from what the model thinks likely."""
    ids = torch.randint(0, 64, (rows, 1))
    while ids.shape[1] < 24:
        ids = torch.cat([ids, torch.multinomial(model(input_ids=ids).logits[:, -1].softmax(-1), 1)], 1)
    return ids


@torch.no_grad()
def test_with_it_mxfp4_comes_close_to_nvfp4() -> None:
    """The catalogue's claim: the gap between the perplexities is less than half of that under rounding to nearest."""
    model = language()
    seen, held = spoken(model, 48), spoken(model, 96)
    true = model(input_ids=held).logits.softmax(-1)
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def perplexity(method: Fit | None) -> float:
        """Of the language under the trimmed model, each next word weighted as the language has it."""
        other = LlamaForCausalLM(model.config).eval()
        other.load_state_dict(state)
        if method is not None:
            batch = {"input_ids": seen, "attention_mask": torch.ones_like(seen)}
            walk(anatomy.of(other), [batch], method, ("language",))
        thought = other(input_ids=held).logits.log_softmax(-1)
        return float((-(true * thought).sum(-1).mean()).exp())

    start = perplexity(None)
    rounding = {name: perplexity(FP4(name, clip=False)) for name in ("mxfp4", "nvfp4")}
    ours = {name: perplexity(MRGPTQ(name, rotate=32)) for name in ("mxfp4", "nvfp4")}
    assert start < ours["nvfp4"] < ours["mxfp4"] < rounding["nvfp4"] < rounding["mxfp4"]
    assert ours["mxfp4"] - ours["nvfp4"] < 0.5 * (rounding["mxfp4"] - rounding["nvfp4"])
