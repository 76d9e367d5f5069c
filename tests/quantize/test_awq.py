"""What is special to AWQ: scaling alone changes nothing, a = 0 is RTN, salient inputs are saved, RTN never better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from calibrated import gram_of
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.factors import Diagonal
from trimtab.core.fit import Site
from trimtab.core.joins import Chain, leaves
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.quantize import AWQ, RTN
from trimtab.quantize import scaled as module
from trimtab.quantize.awq import lost as quadratic
from trimtab.quantize.scaled import POINTS, exponent, nearest, scales

GRIDS = [(3, 16, False), (4, 16, True), (2, 8, False), (8, -1, False)]


def fitted(w: Tensor, x: Tensor, knobs: AWQ) -> tuple[Quantized, Diagonal]:
    found = knobs(Dense(w), Site("layer", lambda: w, gram_of(x)))
    assert isinstance(found, Chain)
    q, back = leaves(found)
    assert isinstance(q, Quantized)
    assert isinstance(back, Diagonal)
    return q, back


def lost(w: Tensor, v: Weight | Tensor, x: Tensor) -> float:
    dense = v.dense() if isinstance(v, Weight) else v
    return ((w.double() - dense.double()) @ x.double().T).square().sum().item()


def plain(w: Tensor, knobs: AWQ) -> Weight:
    return knobs.without_data()(Dense(w), Site("", lambda: w))


def unequal(out: int, width: int, seed: int, tokens: int = 400) -> tuple[Tensor, Tensor]:
    """A matrix, and correlated inputs of unequal size."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=g) / width**0.5 + 0.5 * torch.eye(width)
    size = torch.logspace(-1, 0.5, width)[torch.randperm(width, generator=g)]
    return torch.randn(out, width, generator=g) * 0.1, (torch.randn(tokens, width, generator=g) @ mix) * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_scaling_without_rounding_changes_nothing(dtype: torch.dtype) -> None:
    """Also where 1/s is stored in 16 bits: the weights are scaled by the inverse of what is stored."""
    w, x = unequal(24, 64, 0)
    size = gram_of(x).mean_abs()
    for i in range(POINTS):
        back = (1 / scales(size, i / POINTS)).to(dtype).float()
        assert back.isfinite().all()
        torch.testing.assert_close(w / back * back, w, rtol=1e-5, atol=0)
        assert (x @ (w / back * back).T - x @ w.T).norm() <= 1e-5 * (x @ w.T).norm()


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("width", "group", "symmetric"), GRIDS)
def test_the_first_exponent_is_rounding_to_nearest(
    width: int, group: int, symmetric: bool, clip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a = 0 alone to choose from: RTN's codes, or, clipped by the inputs' weight, something that loses less."""
    monkeypatch.setattr(module, "POINTS", 1)
    w, x = unequal(24, 48, 1)
    knobs = AWQ(width, group, symmetric, clip)
    q, back = fitted(w, x, knobs)
    expected = plain(w, knobs)
    assert (back.value == 1).all()
    if clip:
        assert lost(w, q, x) <= lost(w, expected, x)
        return
    for key, value in expected.state_dict().items():
        assert torch.equal(value, q.state_dict()[key]), key


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("width", "group", "symmetric"), GRIDS)
def test_it_never_loses_more_than_rounding_to_nearest(width: int, group: int, symmetric: bool, clip: bool) -> None:
    knobs = AWQ(width, group, symmetric, clip)
    for seed in range(20):
        w, x = unequal(12, 48, seed)
        if seed % 2:
            x = torch.randn(400, 48, generator=torch.Generator().manual_seed(seed))  # nothing to gain by scaling
        found = knobs(Dense(w), Site("layer", lambda w=w: w, gram_of(x)))
        assert lost(w, found, x) <= lost(w, plain(w, knobs), x) * (1 + 1e-5)


def test_where_nothing_is_gained_rounding_to_nearest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the search ends: here at the largest exponent, where one input's weights fill their group's range."""
    w, x = torch.randn(16, 48), torch.randn(400, 48)
    x[:, 0] *= 5
    monkeypatch.setattr(module, "exponent", lambda w, parts, backs, loss, knobs: len(backs) - 1)
    knobs = AWQ(3, 16, clip=False)
    q, back = fitted(w, x, knobs)
    assert torch.equal(q.codes, plain(w, knobs).state_dict()["codes"])
    assert (back.value == 1).all()
    x[:, 0] *= 100
    assert (fitted(w, x, knobs)[1].value != 1).any()


@pytest.mark.parametrize("clip", [False, True])
def test_planted_salient_channels_are_saved(clip: bool) -> None:
    """1 % of the inputs are 50 times as large; at 3 bits the error falls to less than half of RTN's."""
    ratios = []
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        w, x = torch.randn(96, 512, generator=g) * 0.05, torch.randn(1024, 512, generator=g)
        x[:, torch.randperm(512, generator=g)[:5]] *= 50
        knobs = AWQ(3, 64, clip=clip)
        found = knobs(Dense(w), Site("layer", lambda w=w: w, gram_of(x)))
        ratios.append(lost(w, found, x) / lost(w, plain(w, knobs), x))
    assert max(ratios) <= 0.5, ratios


def test_factors_are_a_power_of_the_mean_size() -> None:
    """Of the mean of |x|, not of its square: of two inputs of one variance one is mostly 0, and gets another factor."""
    w, x = unequal(32, 64, 3)
    x[:, 0] = torch.where(torch.arange(400) % 16 == 0, 4.0, 0.0)
    x[:, 1] = torch.where(torch.arange(400) % 2 == 0, 1.0, -1.0)
    q, back = fitted(w, x, AWQ(3, 16))
    a = torch.log(back.value[0] / back.value[1]) / torch.log(x[:, 1].abs().mean() / x[:, 0].abs().mean())
    assert abs(a * POINTS - (a * POINTS).round()) < 1e-3
    assert 0 < a < 1
    expected = (x.abs().mean(0) / x.abs().mean(0)[1]) ** -a
    torch.testing.assert_close(back.value / back.value[1], expected, rtol=1e-4, atol=0)
    assert back.value.max().item() * back.value.min().item() == pytest.approx(1, rel=1e-4)
    assert q.shape == (32, 64)


def test_the_trace_chooses_as_the_rows_themselves_would() -> None:
    """Each exponent tried by multiplying the inputs through, in float64."""
    for seed in range(6):
        w, x = unequal(20, 48, seed)
        knobs, even = AWQ(3, 16), torch.ones(48)
        backs = torch.stack([1 / scales(gram_of(x).mean_abs(), i / POINTS) for i in range(POINTS)])
        losses = []
        for back in backs:
            values = nearest((w / back).T.contiguous(), even, knobs, False, torch.float32).values(torch.float32).T
            losses.append(lost(w, values * back, x))
        parts = torch.arange(20).split(7)
        h = gram_of(x).read()
        found = exponent(Dense(w), parts, backs, lambda d, h=h: quadratic(d, h), knobs)
        assert found == int(np.argmin(losses))


def test_inputs_that_were_never_seen_leave_it_finite() -> None:
    w, x = unequal(16, 48, 4)
    x[:, 5:9] = 0
    q, back = fitted(w, x, AWQ(4, 16))
    assert back.value.isfinite().all()
    assert (Chain([q, back]).dense() - w).abs().max() <= w.abs().max()
    q, back = fitted(w, torch.zeros(20, 48), AWQ(4, 16))
    assert torch.equal(q.codes, plain(w, AWQ(4, 16)).state_dict()["codes"])


def test_the_size_of_the_inputs_does_not_matter() -> None:
    w, x = unequal(16, 48, 5)
    small, large = (fitted(w, s * x, AWQ(3, 16)) for s in (2**-10, 2**10))
    assert torch.equal(small[0].codes, large[0].codes)
    torch.testing.assert_close(small[1].value, large[1].value)


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = unequal(40, 48, 6)
    whole = fitted(w, x, AWQ(3, 16))
    monkeypatch.setattr(module, "NUMBERS", 7 * 48)
    parts = fitted(w, x, AWQ(3, 16))
    assert torch.equal(whole[0].codes, parts[0].codes)
    assert torch.equal(whole[1].value, parts[1].value)


def test_it_is_usable_alone_in_the_checkpoints_dtype() -> None:
    w, x = unequal(64, 128, 7)
    found = AWQ()(Dense(w.bfloat16()), Site("layer", lambda: w, gram_of(x.bfloat16())))
    q, back = leaves(found)
    assert (found.shape, found.dtype, back.dtype) == ((64, 128), torch.bfloat16, torch.bfloat16)
    assert bits(found) == bits(q) + 16 * 128
    assert lost(w.bfloat16(), found, x) < lost(w.bfloat16(), plain(w.bfloat16(), AWQ()), x)
    assert AWQ(3, 32, True).without_data() == RTN(3, 32, True)


def test_no_statistics_and_bad_ones_are_refused() -> None:
    w, x = unequal(8, 16, 8)
    with pytest.raises(BadInput, match="layer: awq needs calibration data"):
        AWQ(4, 16)(Dense(w), Site("layer", lambda: w))
    gram = gram_of(x)
    gram.total[3, 3] = torch.nan
    with pytest.raises(Anomaly, match=r"model\.q_proj: .*calibration data"):
        AWQ(4, 16)(Dense(w), Site("model.q_proj", lambda: w, gram))
