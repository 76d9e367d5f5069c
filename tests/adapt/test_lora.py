"""LoRA and QLoRA: what their papers promise of one layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab import anatomy
from trimtab.adapt.lora import LoRA, attached, settled
from trimtab.adapt.merge import Merge
from trimtab.adapt.peft import Adapter
from trimtab.anatomy import tiny
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Chain, Sum
from trimtab.core.sparse import Masked
from trimtab.core.stats import Gram
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.quantize.mr_gptq import MRGPTQ
from trimtab.quantize.nf4 import NF4
from trimtab.quantize.rtn import RTN

OUT, IN = 12, 16


def quantized(bits: int = 4) -> Quantized:
    w = Dense(torch.randn(OUT, IN))
    made = RTN(bits=bits, group_size=8)(w, Site("layer", w.dense))
    assert isinstance(made, Quantized)
    return made


def masked() -> Masked:
    keep = torch.zeros(OUT, IN // 4, 4, dtype=torch.bool)
    keep[..., :2] = True
    return Masked.of(torch.randn(OUT, IN), keep.flatten(1))


def levels() -> Weight:
    w = Dense(torch.randn(OUT, IN))
    return NF4(group_size=8)(w, Site("layer", w.dense))


def rotated() -> Weight:
    w = torch.randn(OUT, IN)
    gram = Gram(IN)
    gram.add(torch.randn(64, IN), torch.zeros(64, dtype=torch.int64))
    return MRGPTQ()(Dense(w), Site("layer", lambda: w, gram))


BASES = {"dense": lambda: Dense(torch.randn(OUT, IN)), "int4": quantized, "2:4": masked, "nf4": levels,
         "nvfp4": rotated}  # fmt: skip


def trained(w: Weight, method: LoRA, target: Tensor, steps: int = 800, rate: float = 0.02) -> Sum:
    """``w`` with an adapter fitted to y = x @ target.T on inputs whose second moment is the identity."""
    generator = torch.Generator().manual_seed(3)
    low = method.start(w.shape, generator)
    both = attached(w, low)
    adam = torch.optim.Adam([low.left, low.right], lr=rate)
    x = torch.linalg.qr(torch.randn(2 * IN, IN, generator=generator))[0] * (2 * IN) ** 0.5
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = rate * (1 - step / steps)
        F.mse_loss(both(x), x @ target.T).backward()
        adam.step()
        adam.zero_grad()
    return both


def rounded(dense: Tensor, like: Quantized) -> Weight:
    return RTN(like.bits, like.group_size, like.zero is None)(Dense(dense), Site("", lambda: dense))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("use_rslora", [False, True])
def test_at_the_start_nothing_changes_and_only_the_adapter_trains(base: str, use_rslora: bool) -> None:
    w = BASES[base]()
    method = LoRA(r=3, lora_alpha=6.0, use_rslora=use_rslora)
    both, x = attached(w, method.start(w.shape, torch.Generator().manual_seed(0))), torch.randn(5, IN)
    assert torch.equal(both(x), w(x))
    free = [value for value in both.parameters() if value.requires_grad]
    assert sum(value.numel() for value in free) == 3 * (OUT + IN)
    assert method.scale == pytest.approx(6 / (3**0.5 if use_rslora else 3))


def test_the_start_is_that_of_peft() -> None:
    """B is 0, A uniform in +-1/sqrt(in)."""
    low = LoRA(r=64).start((4, 400), torch.Generator().manual_seed(0))
    assert not low.left.any()
    assert low.right.abs().max() <= 400**-0.5
    assert low.right.std().item() == pytest.approx(400**-0.5 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("base", BASES)
def test_the_base_is_bit_identical_after_training_and_the_adapter_is_not(base: str) -> None:
    w = BASES[base]()
    before = {key: value.clone() for key, value in w.state_dict().items()}
    both = trained(w, LoRA(r=2, lora_alpha=2.0), torch.randn(OUT, IN), steps=30)
    assert both.first is w
    assert all(torch.equal(value, before[key]) for key, value in w.state_dict().items())
    x = torch.randn(5, IN)
    assert not torch.allclose(both(x), w(x), atol=1e-2)


@pytest.mark.parametrize("base", ["int4", "nf4", "nvfp4"])
def test_gradients_are_those_of_an_explicit_dense_base(base: str) -> None:
    """Those of the factors, and of the input, which a layer before it sees."""
    w, method = BASES[base](), LoRA(r=3, lora_alpha=6.0)
    low = method.start(w.shape, torch.Generator().manual_seed(1))
    nn.init.normal_(low.left)
    x, cotangent = torch.randn(7, IN, requires_grad=True), torch.randn(7, OUT)
    (attached(w, low)(x) * cotangent).sum().backward()
    assert x.grad is not None
    seen, x.grad = x.grad, None
    left, right = (value.detach().clone().requires_grad_(True) for value in (low.left, low.right))
    y = x @ (w.dense() + 2.0 * left @ right).T
    (y * cotangent).sum().backward()
    torch.testing.assert_close(low.left.grad, left.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(low.right.grad, right.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen, x.grad, rtol=1e-4, atol=1e-4)


def test_full_rank_reaches_a_linear_teacher_and_too_small_a_rank_stops_at_the_best() -> None:
    w, target = Dense(torch.randn(OUT, IN)), torch.randn(OUT, IN)
    gap = target - w.dense()
    full = trained(w, LoRA(r=OUT, lora_alpha=OUT), target)
    assert (full.dense() - target).norm() < 1e-2 * gap.norm()
    for r in (1, 4):
        left = torch.linalg.svdvals(gap)[r:].square().sum().sqrt()
        found = (trained(w, LoRA(r=r, lora_alpha=r), target).dense() - target).norm()
        assert 0.999 * left <= found <= 1.01 * left


@pytest.mark.parametrize("base", ["dense", "int4", "scaled", "2:4"])
def test_a_dora_adapter_is_merged_with_its_magnitudes(base: str) -> None:
    """Its sum stands within a chain; a grid that stands within one (AWQ's) is found as well."""
    w = Chain([quantized(), Diagonal(torch.rand(IN) + 0.5)]) if base == "scaled" else BASES[base]()
    low = LowRank(torch.randn(OUT, 2), torch.randn(2, IN), 0.5)
    both = Adapter(low, torch.rand(OUT) + 0.5).beside(w)
    assert isinstance(both, Chain)
    if base in ("int4", "scaled"):
        with pytest.raises(ValueError, match="requantize: layer is on a grid of 4 bits"):
            Merge()(both, "layer", rounded)
        merged = Merge(requantize=True)(both, "layer", rounded)
        assert isinstance(merged, Quantized)
        assert 0 < (merged.dense() - both.dense()).norm() < 0.2 * both.dense().norm()
        return
    merged = Merge()(both, "layer", rounded)
    wanted = both.dense() if base == "dense" else both.dense() * w.kept()
    assert type(merged) is type(w)
    torch.testing.assert_close(merged.dense(), wanted, rtol=1e-5, atol=1e-5)


def test_what_has_no_adapter_is_given_back() -> None:
    scaled = Chain([quantized(), Diagonal(torch.ones(IN))])
    assert Merge(requantize=True)(scaled, "layer", rounded) is scaled


@pytest.mark.parametrize("base", ["dense", "int4"])
def test_merged_equals_unmerged(base: str) -> None:
    w = BASES[base]()
    both = settled(trained(w, LoRA(r=4, lora_alpha=8.0), torch.randn(OUT, IN), steps=60), torch.float32)
    assert isinstance(both, Sum)
    x = torch.randn(5, IN)
    if base == "dense":
        merged = Merge()(both, "layer", rounded)
        assert isinstance(merged, Dense)
        torch.testing.assert_close(merged(x), both(x), rtol=1e-5, atol=1e-5)
        return
    with pytest.raises(ValueError, match=r"requantize: layer is on a grid of 4 bits.*accepted: true"):
        Merge()(both, "layer", rounded)
    merged = Merge(requantize=True)(both, "layer", rounded)
    assert isinstance(merged, Quantized)
    assert (merged.bits, merged.group_size) == (4, 8)
    assert 0 < (merged.dense() - both.dense()).norm() < 0.2 * both.dense().norm()


def test_what_was_2_4_stays_so_through_training_and_merging() -> None:
    w = masked()
    both = trained(w, LoRA(r=OUT, lora_alpha=OUT), target := torch.randn(OUT, IN))
    there = w.kept()
    assert not both.dense()[~there].any()
    left = settled(both, torch.float32)
    assert isinstance(left, Masked)
    assert torch.equal(left.kept(), there)
    torch.testing.assert_close(left.dense(), both.dense(), rtol=1e-5, atol=1e-6)
    best = target * there  # of all matrices with this mask the nearest
    assert (left.dense() - target).norm() < 1.01 * (best - target).norm() < (w.dense() - target).norm()


def test_another_adapter_stands_beside_the_first() -> None:
    first = attached(Dense(torch.randn(OUT, IN)), LoRA(r=2).start((OUT, IN), torch.Generator()))
    second = LoRA(r=3).start((OUT, IN), torch.Generator())
    nn.init.normal_(second.left)
    both, x = attached(first, second), torch.randn(4, IN)
    assert len(list(both)) == 3
    torch.testing.assert_close(both(x), first(x) + second(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("knobs", "size", "said"),
    [
        ({"r": 0}, (0, None), "r: got 0"),
        ({"r": 13}, (IN, OUT), "accepted: 1 to 12"),
        ({"validation": 1.0}, (0, None), "validation: got 1.0"),
        ({"learning_rate": 0.0}, (0, None), "learning_rate: got 0.0; accepted: above 0"),
        ({"lora_dropout": -0.1}, (0, None), "lora_dropout"),
    ],
)
def test_knobs_that_cannot_be_are_refused_by_name(knobs: dict, size: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LoRA(**knobs).check(*size)


def test_dropout_is_on_in_training_only() -> None:
    low = LoRA(r=4, lora_dropout=0.5).start((OUT, IN), torch.Generator())
    nn.init.normal_(low.left)
    x = torch.randn(64, IN)
    assert not torch.equal(low(x), low(x))
    low.eval()
    assert torch.equal(low(x), low(x))
    left = settled(Sum([Dense(torch.zeros(OUT, IN)), low.train()]), torch.float32)
    assert torch.equal(left(x), left(x)), "what is handed on drops nothing"


def learnt(base: str, steps: int = 80) -> tuple[float, float]:
    """A tiny Llama taught the next word of a noisy cycle by adapters alone, on 16-bit or 4-bit matrices: the loss on
    fresh rows, and the bytes of the matrices over their bytes in 16 bits."""
    model, _ = tiny.make("llama")
    hosts = [host for name, host in anatomy.of(model.bfloat16()).linears() if name != "lm_head"]
    model.requires_grad_(False)
    generator, lows = torch.Generator().manual_seed(0), []
    grids = {"int4": RTN(bits=4, group_size=16, symmetric=True), "nf4": NF4(group_size=-1)}
    if base in grids:
        for host in hosts:
            host.w = grids[base](host.w, Site("layer", host.w.dense))
    share = sum(bits(host.w) for host in hosts) / sum(16 * host.w.shape[0] * host.w.shape[1] for host in hosts)
    for host in hosts:
        lows.append(LoRA(r=8, lora_alpha=16.0).start(host.w.shape, generator))
        host.w = attached(host.w, lows[-1])
    adam = torch.optim.Adam([value for low in lows for value in low.parameters()], lr=1e-2)
    model.float()

    def loss() -> Tensor:
        ids = 3 + (torch.randint(0, 90, (16, 1), generator=generator) + torch.arange(12)) % 90
        wrong = torch.rand(ids.shape, generator=generator) < 0.2
        ids = torch.where(wrong, torch.randint(3, 93, ids.shape, generator=generator), ids)
        found: Tensor = model(input_ids=ids, labels=ids).loss
        return found

    for _ in range(steps):
        loss().backward()
        adam.step()
        adam.zero_grad()
    with torch.no_grad():
        return sum(float(loss()) for _ in range(20)) / 20, share


def test_on_four_bits_a_language_model_learns_as_well_as_on_sixteen() -> None:
    """QLoRA's claim (Dettmers et al. 2023) on a toy: a final loss within 2 % on about a quarter of the bytes (with a
    scale for every 16 weights 5 bits of 16; NF4 with 8 bits for a row of 32 or 48, and twice 32 for each matrix)."""
    start, _ = learnt("dense", steps=0)
    dense, whole = learnt("dense")
    quantized, share = learnt("int4")
    levels, less = learnt("nf4")
    assert dense < 0.8 * start, "it learns"
    assert abs(quantized / dense - 1) < 0.02
    assert abs(levels / dense - 1) < 0.02
    assert (whole, share) == (1.0, 5 / 16)
    assert 4.2 / 16 < less < 4.4 / 16
