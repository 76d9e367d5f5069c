"""SmoothQuant: what it moves is exact without rounding, and with planted outliers rounding loses less."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.core.acts import DynamicInt8
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.factors import Diagonal
from trimtab.core.fit import Site
from trimtab.core.joins import Chain, leaves
from trimtab.core.stats import PADDING, Gram
from trimtab.core.weight import Dense, Quantized
from trimtab.quantize import W8A8, SmoothQuant
from trimtab.quantize.smoothquant import factors
from trimtab.run.walk import walk

SEEDS = range(20)


def planted(seed: int, size: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix and inputs of which four are ``size`` times as large as the rest in every token; seen and held out."""
    g = torch.Generator().manual_seed(seed)
    scale = torch.ones(64)
    scale[torch.randperm(64, generator=g)[:4]] = size
    x, held = (torch.randn(256, 64, generator=g) * scale for _ in range(2))
    return (torch.randn(48, 64, generator=g) / 8).to(dtype), x.to(dtype), held.to(dtype)


def gram(x: Tensor) -> Gram:
    found = Gram(x.shape[1])
    found.add(x, torch.zeros(len(x), dtype=torch.int64))
    return found


def fitted(alpha: float, w: Tensor, x: Tensor) -> Chain:
    made = SmoothQuant(alpha)(Dense(w), Site("layer", lambda: w, gram(x)))
    assert isinstance(made, Chain)
    return made


def error(w: Any, dense: Tensor, x: Tensor) -> float:
    """||answer - W x|| / ||W x|| with weights and inputs rounded."""
    exact = x.double() @ dense.double().T
    return ((DynamicInt8()(w, x).double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_nothing_is_lost_before_rounding(alpha: float) -> None:
    """(W diag(s)) (diag(1/s) x) = W x to 1e-5, whatever the size of the outliers."""
    for size in (1.0, 30.0, 1000.0):
        w, x, _ = planted(0, size)
        s = factors(x.abs().amax(0), w.abs().amax(0), alpha)
        y, exact = (x / s) @ (w * s).T, x @ w.T
        assert (y - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_factors_are_the_papers_but_for_one_number(alpha: float) -> None:
    w, x, _ = planted(1, 50.0)
    s = factors(x.abs().amax(0), w.abs().amax(0), alpha).double()
    largest = [[max(abs(v) for v in column) for column in m.double().T.tolist()] for m in (x, w)]
    paper = torch.tensor([a**alpha / b ** (1 - alpha) for a, b in zip(*largest, strict=True)]).double()
    ratio = s / paper
    torch.testing.assert_close(ratio, ratio[:1].expand(64), rtol=1e-6, atol=0)
    assert s.max() * s.min() == pytest.approx(1, rel=1e-5)


def test_a_common_number_changes_no_code() -> None:
    """What the factors are divided by does not matter: the scales of tokens and rows take it up."""
    w, x, _ = planted(2, 50.0)
    (q, back) = leaves(fitted(0.5, w, x))
    assert isinstance(q, Quantized)
    assert isinstance(back, Diagonal)
    for power in (-3, 4):
        other = W8A8().weights.rounded(w / (back.value * 2.0**power), w.dtype)
        assert torch.equal(other.codes, q.codes)
        codes = DynamicInt8().codes(x * back.value)[0]
        assert torch.equal(codes, DynamicInt8().codes(x * back.value * 2.0**power)[0])


@pytest.mark.parametrize("size", [10.0, 100.0])
def test_planted_outliers_cost_less_than_without(size: float) -> None:
    """On every seed, on inputs that were not seen; by more than a factor of two from 30 on."""
    ratios = []
    for seed in SEEDS:
        w, x, held = planted(seed, size)
        plain = W8A8()(Dense(w), Site("layer", lambda w=w: w))
        ratios.append(error(fitted(0.5, w, x), w, held) / error(plain, w, held))
    assert max(ratios) < (1 if size < 30 else 0.5), ratios


def test_an_even_share_is_the_best_of_the_grid_whatever_the_outliers() -> None:
    """0.5 of 0, 0.25, 0.5, 0.75 and 1, on the mean of 6 seeds; the ends move the whole range to one side."""
    for size in (1.0, 30.0):
        mean = {}
        for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
            layers = [planted(seed, size) for seed in range(6)]
            mean[alpha] = sum(error(fitted(alpha, w, x), w, held) for w, x, held in layers) / len(layers)
        assert mean[0.5] <= 1.02 * min(mean.values()), (size, mean)
        assert size == 1 or mean[0.5] < 0.7 * min(mean[0.0], mean[1.0]), (size, mean)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_factors_hold_any_outlier(dtype: torch.dtype) -> None:
    w, x, held = planted(3, 1000.0, dtype)
    made = fitted(1.0, w, x)
    _, back = leaves(made)
    assert isinstance(back, Diagonal)
    assert back.value.isfinite().all()
    assert (back.value > 0).all()
    assert error(fitted(0.5, w, x), w, held) < 0.05


def test_inputs_that_were_always_0_or_have_no_weight_change_nothing_else() -> None:
    w, x, _ = planted(4, 30.0)
    s = factors(x.abs().amax(0), w.abs().amax(0), 0.5)
    x[:, 7], w[:, 9] = 0, 0
    with_dead = factors(x.abs().amax(0), w.abs().amax(0), 0.5)
    alive = torch.ones(64, dtype=torch.bool)
    alive[[7, 9]] = False
    ratio = (with_dead / s)[alive]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert with_dead[[7, 9]].tolist() == [1, 1]
    assert torch.equal(factors(torch.zeros(4), torch.ones(4), 0.5), torch.ones(4))


def test_linears_that_share_an_input_share_their_factors() -> None:
    """From the largest weight of all of them, as they were before any was rounded; q, k, v and gate, up."""
    model, batch = tiny.make("llama")
    anatomy = anatomies.of(model)
    before = {path: host.w.dense().clone() for path, host in anatomy.linears()}
    walk(anatomy, [batch], SmoothQuant(0.4), ["language"])
    found = {path: list(leaves(host.w))[1].value for path, host in anatomy.linears() if isinstance(host.w, Chain)}
    sharing = 0
    for block in anatomy.blocks():
        for stage in anatomy.stages(block):
            mine = [found[path] for path in stage]
            assert all(torch.equal(one, mine[0]) for one in mine)
            largest = torch.stack([before[path].abs().amax(0) for path in stage]).amax(0)
            alone = before[stage[0]].abs().amax(0)
            sharing += not torch.equal(largest, alone)
    assert sharing >= 2 * len(anatomy.blocks())
    first = anatomy.stages(anatomy.blocks()[0])[0]
    seen = anatomies.of(tiny.make("llama")[0])
    grams: dict[str, Gram] = {}

    class Look(SmoothQuant):
        def __call__(self, w: Any, site: Site) -> Any:
            grams[site.name] = site.gram
            return super().__call__(w, site)

    walk(seen, [batch], Look(0.4), ["language"])
    largest = torch.stack([before[path].abs().amax(0) for path in first]).amax(0)
    torch.testing.assert_close(found[first[0]], 1 / factors(grams[first[0]].largest, largest, 0.4))


def test_the_largest_input_is_gathered_beside_the_products() -> None:
    x, kinds = torch.randn(301, 12) * torch.logspace(-2, 2, 12), torch.randint(0, 4, (301,))
    x[kinds == PADDING] = 1e9
    whole, first, second = Gram(12), Gram(12), Gram(12)
    whole.add(x, kinds)
    first.add(x[:100], kinds[:100])
    second.add(x[100:], kinds[100:])
    first.merge(second)
    expected = x[kinds != PADDING].abs().amax(0)
    parts = Gram(12)
    parts.add(x[:150], kinds[:150])
    parts.add(x[150:], kinds[150:])
    assert torch.equal(whole.largest, expected)
    assert torch.equal(parts.largest, expected)
    assert torch.equal(first.largest, expected)
    empty = Gram(12)
    empty.add(x[:0], kinds[:0])
    assert torch.equal(empty.largest, torch.zeros(12))


def test_what_cannot_be_smoothed_is_said() -> None:
    w, x, _ = planted(5, 30.0)
    with pytest.raises(BadInput, match="layer: smoothquant needs calibration data"):
        SmoothQuant()(Dense(w), Site("layer", lambda: w))
    x[3, 4] = torch.inf
    with pytest.raises(Anomaly, match="layer: some inputs were not finite"):
        SmoothQuant()(Dense(w), Site("layer", lambda: w, gram(x)))
    for alpha in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"alpha: got {alpha}; accepted: 0 to 1"):
            SmoothQuant(alpha).check(64)
    assert SmoothQuant().without_data() == W8A8()
