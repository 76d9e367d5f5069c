"""What is special to NF4: its levels, its bytes, and where its error stands (Dettmers et al. 2023)."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.core.codebook import LEVELS, Codebook
from trimtab.core.fit import Site
from trimtab.core.weight import Dense, Weight, bits
from trimtab.quantize import NF4, RTN
from trimtab.quantize import levels as module

FP4 = (0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 1)
"""The 4-bit float that bitsandbytes scales by the largest weight."""


def fitted(w: Tensor, method: NF4 | RTN | None = None) -> Weight:
    return (method or NF4())(Dense(w), Site("layer", lambda: w))


def slow(w: Tensor, levels: list[float]) -> float:
    """Mean squared error in blocks of 64, each weight at the nearest level times the largest, float64."""
    blocks = w.double().view(-1, 64)
    top = blocks.abs().amax(1, True)
    each = torch.stack([blocks - level * top for level in levels])
    return each.square().amin(0).mean().item()


def error(w: Tensor, made: Weight) -> float:
    return (w.double() - made.dense().double()).square().mean().item()


def test_levels_are_quantiles_of_the_normal_distribution() -> None:
    """Eight above and seven below 0, evenly spaced in probability from 0.9677083 to 1/2, over the largest."""
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in np.linspace(0.9677083, 0.5, 9)[:-1]]
    below = [-quantile(p) for p in np.linspace(0.9677083, 0.5, 8)[:-1]]
    expected = np.sort([*above, 0.0, *below]) / max(above)
    np.testing.assert_allclose(LEVELS["nf4"], expected, rtol=0, atol=2e-7)
    assert LEVELS["nf4"][7] == 0.0


@pytest.mark.parametrize("double_quant", [True, False])
def test_zero_stays_zero(double_quant: bool) -> None:
    w = torch.randn(8, 128)
    w[0], w[1, :64], w[2, ::2] = 0, 0, 0
    assert (fitted(w, NF4(double_quant=double_quant)).dense()[w == 0] == 0).all()
    assert not fitted(torch.zeros(4, 64), NF4(double_quant=double_quant)).dense().any()


def test_the_published_bytes() -> None:
    """4 + 8/64 + 32/(64 * 256) = 4.127 bits for each weight, and one number for the matrix; 4.5 in 32-bit scales."""
    size = 4096 * 4096
    assert NF4().stored(4096, 4096, 0) - 32 == size * 4 + size // 64 * 8 + size // (64 * 256) * 32
    assert NF4().stored(4096, 4096, 0) / size == pytest.approx(4.127, abs=5e-4)
    assert NF4(double_quant=False).stored(4096, 4096, 0) / size == 4.5
    w = torch.randn(512, 512).bfloat16()
    assert bits(fitted(w)) == NF4().stored(512, 512, 0)


def test_on_normal_weights_it_is_below_int4_and_fp4_and_on_uniform_ones_int4_is() -> None:
    """The catalogue's figures: 0.0085, 0.0117, 0.0149."""
    w, even = torch.randn(1024, 1024), torch.rand(1024, 1024) * 2 - 1
    int4 = [i / 7 for i in range(-7, 8)]
    fp4 = [sign * level for sign in (1, -1) for level in FP4]
    found = error(w, fitted(w))
    assert found == pytest.approx(0.0085, rel=0.01)
    assert slow(w, int4) == pytest.approx(0.0117, rel=0.01)
    assert slow(w, fp4) == pytest.approx(0.0149, rel=0.01)
    assert found == pytest.approx(slow(w, list(LEVELS["nf4"])), rel=1e-3), "8-bit scales cost next to nothing"
    assert slow(even, int4) < 0.7 * error(even, fitted(even))


def test_it_beats_an_even_grid_of_no_fewer_bytes() -> None:
    """RTN with its search, at groups of 128 (16-bit scales, 8-bit zeros: 4.19 bits for each weight)."""
    w = torch.randn(256, 1024).bfloat16()
    other, ours = fitted(w, RTN(4, 128)), fitted(w)
    assert bits(ours) < bits(other)
    assert error(w, ours) < 0.95 * error(w, other)


def test_double_quantization_takes_the_mean_off_and_bears_an_outlier() -> None:
    """Scales come back to a sixteenth of their distance from the mean, as 3 bits of mantissa have it, whatever the
    largest of their block."""
    w = torch.randn(64, 1024)
    w[5, 70] = 500.0
    w[40:] *= 3
    made = fitted(w)
    assert isinstance(made, Codebook)
    exact, found = w.view(64, 16, 64).abs().amax(2), made.scales.read(slice(None))
    assert made.mean is not None
    assert made.mean.item() == pytest.approx(exact.mean().item(), rel=1e-6)
    assert ((found - exact).abs() <= (exact - exact.mean()).abs() / 16 + 1e-2).all()
    assert made.coarse is not None
    assert [made.coarse.shape, made.scale.shape] == [(4,), (64, 16)]
    assert made.scale.dtype == torch.uint8


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    w = torch.randn(50, 128).bfloat16()
    whole = fitted(w).state_dict()
    monkeypatch.setattr(module, "NUMBERS", 500)
    assert all(torch.equal(value, whole[name]) for name, value in fitted(w).state_dict().items())
