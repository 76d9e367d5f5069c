"""What is special to QuantEase: no move loses, GPTQ's codes only get better, and outliers beside the grid help more."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from calibrated import gram_of, inputs
from trimtab import anatomy as anatomies
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.fit import Site
from trimtab.core.hessian import seen
from trimtab.core.joins import Sum
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.quantize import GPTQ, RTN, QuantEase, descent
from trimtab.quantize import quantease as module
from trimtab.quantize.descent import Few, Grid, largest, step_rate, sweep, threshold
from trimtab.quantize.quantease import grid_of
from trimtab.run.walk import walk


def site(w: Tensor, x: Tensor) -> Site:
    return Site("layer", lambda: w, gram_of(x))


def lost(w: Tensor, fitted: Weight, x: Tensor) -> Tensor:
    """The squared error of each row's output, in float64 from the leaves."""
    parts = fitted if isinstance(fitted, Sum) else [fitted]
    d = w.double() - sum(part.dense().double() for part in parts)
    return (d @ x.double().T).square().sum(1)


def heavy(rows: int, width: int) -> Tensor:
    """Weights of which some are far larger than the rest."""
    w = torch.randn(rows, width)
    return torch.where(torch.rand(rows, width) < 0.01, 12 * w, w)


def test_two_columns_by_hand() -> None:
    """Nearly the same input twice: 0.4 and 0.4 are 0 and 0 rounded alone; the first then moves to 1 for both."""
    x = torch.tensor([[1.0, 1.0, 0, 0], [0, 0.1, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]])
    w = torch.tensor([[0.4, 0.4, 0.0, 3.0]])
    ours = QuantEase(2, -1, start="rtn", clip=False)(Dense(w), site(w, x))
    assert ours.dense().tolist() == [[1.0, 0.0, 0.0, 3.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("outliers", [0.0, 0.01])
@pytest.mark.parametrize("start", ["gptq", "rtn"])
def test_the_objective_never_grows(start: str, outliers: float, dtype: torch.dtype) -> None:
    """Row by row from sweep to sweep; with outliers, which a part of the rows shares, over all rows."""
    w, x = heavy(24, 48).to(dtype), inputs(300, 48)
    found = [
        lost(w, QuantEase(3, 16, start=start, sweeps=count, outliers=outliers)(Dense(w), site(w, x)), x)
        for count in range(5)
    ]
    for before, after in pairwise(found):
        if not outliers:
            assert (after <= before * (1 + 1e-5)).all()
        assert after.sum() <= before.sum() * (1 + 1e-5)
    assert found[-1].sum() < 0.95 * found[0].sum()


def test_where_it_ends_no_single_code_can_gain() -> None:
    """A fixed point of the equation, tried code by code in float64."""
    w, x = torch.randn(6, 24), inputs(100, 24)
    q = QuantEase(2, 8, sweeps=50)(Dense(w), site(w, x))
    assert isinstance(q, Quantized)
    grid, h = grid_of(q, torch.arange(6)), x.double().T @ x.double()
    for column in range(24):
        for code in range(4):
            other = grid.codes.clone()
            other[column] = code
            values = Grid.of(other, grid.scale, grid.zero, 2, torch.float32).values.T.double()
            d = w.double() - values
            assert ((d @ h * d).sum(1) >= lost(w, q, x) * (1 - 1e-5)).all()


@pytest.mark.parametrize("group_size", [16, -1])
def test_blocks_and_parts_change_nothing(group_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    w, x, found = torch.randn(21, 48), inputs(200, 48), []
    for block, part in ((1, 21), (7, 5), (128, 1024)):
        monkeypatch.setattr(descent, "BLOCK", block)
        monkeypatch.setattr(module, "PART", part)
        found.append(QuantEase(3, group_size)(Dense(w), site(w, x)).state_dict()["codes"])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("outliers", [0.0, 0.02])
def test_threads_change_no_code(outliers: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 8)
    w, x, before, found = heavy(50, 32), inputs(200, 32), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(QuantEase(3, 16, outliers=outliers)(Dense(w), site(w, x)).state_dict())
    finally:
        torch.set_num_threads(before)
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key


def test_inputs_that_are_always_zero_keep_the_codes_of_the_start() -> None:
    w, x = torch.randn(8, 32), inputs(100, 32)
    x[:, 4:9] = 0
    ours, gptq = (fit(Dense(w), site(w, x)).dense() for fit in (QuantEase(3, 8), GPTQ(3, 8)))
    assert torch.equal(ours[:, 4:9], gptq[:, 4:9])
    assert not torch.equal(ours, gptq)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_thresholding_is_the_gradient_step_that_a_slow_reference_makes(dtype: torch.dtype) -> None:
    w, x = heavy(7, 24), inputs(100, 24)
    h = seen(site(w, x), "")
    few, rate, d = largest(w.T, 12, dtype), step_rate(h), torch.randn(24, 7)
    after, now = threshold(d, few, h, rate)
    s = np.zeros(w.shape)
    s.flat[few.at.numpy()] = few.values.double().numpy()
    wanted = s + rate * d.T.double().numpy() @ h.double().numpy()
    smallest = np.sort(np.abs(wanted).ravel())[-12]
    expected = torch.tensor(np.where(np.abs(wanted) >= smallest, wanted, 0)).to(dtype).double()
    torch.testing.assert_close(
        now.spread(d).T.double(), expected, rtol=1e-4 if dtype == torch.float32 else 1e-2, atol=0
    )
    torch.testing.assert_close(after, d + few.spread(d) - now.spread(d))
    assert (now.at.diff() > 0).all()


def test_a_step_that_rounding_spoils_is_not_taken() -> None:
    w = torch.randn(7, 24)
    few = largest(w.T, 12, torch.bfloat16)
    d = few.values.float().abs().max() * 1e-6 * torch.randn(24, 7)
    after, now = threshold(d, Few(few.at, few.values.double() * (1 + 1e-3)), torch.eye(24), -1.0)
    assert torch.equal(after, d), "a step uphill"
    assert torch.equal(now.at, few.at)


@pytest.mark.parametrize("width", [1, 8, 64])
def test_the_rate_is_that_of_the_largest_eigenvalue(width: int) -> None:
    h = gram_of(inputs(3 * width, width)).read()
    assert 0.95 <= step_rate(h) * torch.linalg.eigvalsh(h.double())[-1] <= 1
    assert step_rate(torch.zeros(4, 4)) == 0


def test_a_sweep_is_the_catalogues_equation_from_any_state() -> None:
    """Q and S given, weights not in float32's exact reach: against numpy, one weight at a time."""
    w, x = torch.randn(5, 32), inputs(200, 32)
    start, s = RTN(3, 8)(Dense(w), Site("", lambda: w)), 0.1 * torch.randn(5, 32)
    assert isinstance(start, Quantized)
    grid, h = grid_of(start, torch.arange(5)), seen(site(w, x), "")
    codes, aim = grid.codes.T.double().numpy().copy(), (w - s).double().numpy()
    scale, zero = (t.T.double().repeat_interleave(8, 1).numpy() for t in (grid.scale, grid.zero))
    exact = x.double().numpy().T @ x.double().numpy()
    for j in range(32):
        q = (codes - zero) * scale
        others = aim @ exact[:, j] - (q @ exact[:, j] - q[:, j] * exact[j, j])
        codes[:, j] = np.clip(np.rint(others / exact[j, j] / scale[:, j]) + zero[:, j], 0, 7)
    d = w.T - grid.values - s.T
    assert sweep(d, grid, h, [True] * 32)
    assert torch.equal(grid.codes.T.double(), torch.tensor(codes))
    torch.testing.assert_close(d, w.T - grid.values - s.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("out", "outliers"), [(40, 0.01), (20, 0.05), (40, 0.1), (16, 0.001)])
def test_outliers_are_as_many_as_was_said_beside_a_grid(out: int, outliers: float, dtype: torch.dtype) -> None:
    w, x = heavy(out, 64).to(dtype), inputs(300, 64)
    fit = QuantEase(3, 16, outliers=outliers)
    found = fit(Dense(w), site(w, x))
    assert isinstance(found, Sum)
    grid, few = found
    assert isinstance(grid, Quantized)
    assert isinstance(few, Masked)
    assert few.values.numel() == int(few.kept().sum()) == round(outliers * out * 64)
    assert (found.shape, found.dtype, few.dtype) == ((out, 64), dtype, dtype)
    if dtype == torch.bfloat16:
        assert bits(found) == fit.stored(out, 64, 0)
    assert lost(w, found, x).sum() < lost(w, QuantEase(3, 16)(Dense(w), site(w, x)), x).sum()


def test_outliers_of_every_part_stand_in_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 8)
    w, x = torch.randn(20, 64), inputs(300, 64)
    where = torch.arange(20), torch.randint(0, 64, (20,))
    w[where] = 40.0
    found = QuantEase(3, 16, outliers=1 / 64)(Dense(w), site(w, x))
    assert isinstance(found, Sum)
    _, few = found
    assert isinstance(few, Masked)
    assert [t.tolist() for t in few.places()] == [t.tolist() for t in where]
    assert (few.values - 40).abs().max() < 3


def test_outliers_stretch_no_grid() -> None:
    """One weight of 50 in a row of ones and minus ones: the grid beside it is that of the ones."""
    w = torch.ones(4, 64)
    w[:, 1::2] = -1
    w[2, 9] = 50.0
    found = QuantEase(2, -1, clip=False, outliers=1 / 256)(Dense(w), site(w, inputs(200, 64)))
    assert isinstance(found, Sum)
    grid, few = found
    assert isinstance(grid, Quantized)
    assert isinstance(few, Masked)
    assert few.places()[0].tolist() == [2]
    assert few.places()[1].tolist() == [9]
    assert grid.scale.max() < 1
    torch.testing.assert_close(found.dense()[2, 9], torch.tensor(50.0), rtol=0, atol=0.7)


def test_without_data_it_is_rounding_with_outliers_by_size() -> None:
    w = heavy(16, 64).bfloat16()
    fit = QuantEase(3, 16, outliers=0.01)
    plain = fit.without_data()(Dense(w), Site("", lambda: w))
    assert isinstance(plain, Sum)
    grid, few = plain
    where = few.state_dict()["values"].float().abs()
    assert where.min() >= w.float().abs().flatten().sort(descending=True).values[10]
    rest = w.masked_fill(few.kept(), 0)  # type: ignore[operator]
    assert torch.equal(grid.dense(), RTN(3, 16)(Dense(rest), Site("", lambda: w)).dense())
    assert bits(plain) == fit.stored(16, 64, 0)


def test_knobs_and_statistics_that_cannot_be_used_are_refused() -> None:
    w = torch.randn(4, 16)
    for knobs, says in (({"sweeps": -1}, "sweeps: got -1"), ({"outliers": 0.2}, r"outliers: got 0\.2"),
                        ({"damp_percent": 2.0}, "damp_percent"), ({"outliers": -0.1}, "outliers")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            QuantEase(4, 16, **knobs).check(16)
    with pytest.raises(BadInput, match="layer: quantease needs calibration data"):
        QuantEase(4, 16)(Dense(w), Site("layer", lambda: w))
    bad = gram_of(inputs(100, 16))
    bad.total[3, 3] = torch.nan
    for start in ("gptq", "rtn"):
        with pytest.raises(Anomaly, match=r"layer: .*calibration data"):
            QuantEase(4, 16, start=start)(Dense(w), Site("layer", lambda: w, bad))


WORDS, CHANNEL = 16, 7


def sentences(count: int, seed: int) -> Tensor:
    """A language in which two words say the next, nine times out of ten."""
    table = torch.randint(0, WORDS, (WORDS, WORDS), generator=torch.Generator().manual_seed(1))
    g = torch.Generator().manual_seed(seed)
    found = torch.randint(0, WORDS, (count, 32), generator=g)
    free = torch.rand(count, 32, generator=g) < 0.1
    for t in range(2, 32):
        found[:, t] = torch.where(free[:, t], found[:, t], table[found[:, t - 2], found[:, t - 1]])
    return found


@pytest.fixture(scope="module", name="lm")
def _lm() -> LlamaForCausalLM:
    """A language model that learnt it, with one large channel a layer, as large models have: what goes into it is made
    ten times smaller, what comes out of it ten times larger."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=64, tie_word_embeddings=False,
        )
    )  # fmt: skip
    optimizer, steps = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95)), 150
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        batch = sentences(32, step)
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight[CHANNEL] /= 10
            layer.mlp.down_proj.weight[:, CHANNEL] *= 10
    return model


@torch.no_grad()
def perplexity(model: LlamaForCausalLM) -> float:
    held = sentences(256, 10**6)
    return float(model(input_ids=held, labels=held).loss.exp())


def batch(seed: int) -> dict[str, Tensor]:
    ids = sentences(64, seed)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_perplexity_at_three_bits_is_below_gptqs_and_outliers_lower_it_further(lm: LlamaForCausalLM) -> None:
    """The mean of eight calibration sets, a scale for each row; the codes that it begins with are that GPTQ's."""
    found = {"dense": perplexity(lm)}
    fits = {"gptq": GPTQ(3, -1), "ours": QuantEase(3, -1), "outliers": QuantEase(3, -1, outliers=0.01)}
    for name, fit in fits.items():
        each = []
        for seed in range(8):
            model = copy.deepcopy(lm)
            walk(anatomies.of(model), [batch(7000 + seed)], fit, ["language"])
            each.append(perplexity(model))
        found[name] = float(np.mean(each))
    assert found["dense"] < found["outliers"] < found["ours"] < found["gptq"], found
    assert found["outliers"] - found["dense"] < 0.6 * (found["gptq"] - found["dense"]), found


@pytest.mark.parametrize("wide", [3, 2])
def test_on_every_layer_of_a_model_the_error_is_at_most_gptqs(lm: LlamaForCausalLM, wide: int) -> None:
    """On the inputs of the untouched model, the same for both."""
    model = copy.deepcopy(lm)
    anatomy, rows = anatomies.of(model), dict[str, Tensor]()
    for _, host in anatomy.linears():
        host.tap = lambda host, x: rows.setdefault(host.name, x.flatten(0, -2))
    with torch.no_grad():
        model(**batch(7000))
    compared = 0
    for name, host in anatomy.linears():
        w, x = host.w.dense().detach(), rows[name]
        ours, gptq = (fit(host.w, site(w, x)) for fit in (QuantEase(wide, 32), GPTQ(wide, 32)))
        assert (lost(w, ours, x) <= lost(w, gptq, x) * (1 + 1e-6)).all(), name
        assert lost(w, ours, x).sum() < lost(w, gptq, x).sum(), name
        compared += 1
    assert compared == 15
