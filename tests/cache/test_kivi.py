"""KIVI: grids that reach both ends of a group, what stays in full precision, and why keys go by channel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oracle import make
from slow_cache import rounded
from trimtab import anatomy
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.cache import KIVI
from trimtab.cache.codes import Codes, Grouped


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_range_of_each_group_is_reproduced_and_all_else_to_half_a_step(bits: int, dtype: torch.dtype) -> None:
    x = (torch.randn(3, 5, 8) * torch.logspace(-2, 2, 5)[:, None] + 3).to(dtype)
    codes = Codes.of(x, bits)
    found = codes.values()
    assert found.dtype == dtype
    low, high = x.float().aminmax(dim=-1)
    rounding = torch.finfo(dtype).eps * x.float().abs().amax(-1)
    assert torch.equal(found.float().amin(-1), low)
    assert ((found.float().amax(-1) - high).abs() <= rounding + (high - low) * torch.finfo(dtype).eps).all()
    step_size = (high - low) / (2**bits - 1)
    assert ((found.float() - x.float()).abs() <= (step_size / 2 + 2 * rounding)[..., None]).all()
    assert len(found[0, 0].unique()) <= 2**bits


def test_codes_are_those_of_the_slow_reference_in_packed_bytes() -> None:
    x = torch.randn(4, 6, 8)
    for bits in (2, 4, 8):
        codes = Codes.of(x, bits)
        wanted = torch.stack([torch.stack([rounded(vector, bits) for vector in row]) for row in x])
        assert torch.allclose(codes.values(), wanted, atol=1e-6)
        assert codes.nbytes == 24 * (bits + 2 * 4)  # 8 codes fill as many bytes as they have bits; scale and low


def test_a_group_of_equal_numbers_is_itself() -> None:
    x = torch.full((2, 3, 4), -1.7)
    assert torch.equal(Codes.of(x, 4).values(), x)


@pytest.mark.parametrize(("group_size", "span"), [(4, 4), (8, 8), (6, 8)])
def test_keys_have_grids_by_channel_and_values_by_token(group_size: int, span: int) -> None:
    """One number changed beyond all others touches its own grid and no other; 6 does not divide 8 channels."""
    k, v = torch.randn(1, 2, 2 * group_size, 8), torch.randn(1, 2, 2 * group_size, 8)
    before = Grouped.of(k, v, 4, group_size).read()
    k[0, 1, 1, 3] = 90.0
    v[0, 0, 2, 5] = 90.0
    after = Grouped.of(k, v, 4, group_size).read()
    keys, values = (old != new for old, new in zip(before, after, strict=True))
    assert {tuple(at) for at in keys.nonzero().tolist()} <= {(0, 1, t, 3) for t in range(group_size)}
    first = 5 // span * span
    assert {tuple(at) for at in values.nonzero().tolist()} <= {(0, 0, 2, c) for c in range(first, first + span)}
    assert keys.sum() > 1
    assert values.sum() > 1


@pytest.mark.parametrize(("group_size", "residual"), [(4, 3), (2, 0), (4, 8)])
def test_the_newest_entries_stay_as_they_are_and_the_others_go_in_whole_groups(group_size: int, residual: int) -> None:
    body = anatomy.of(make("llama")[0])
    ids = torch.randint(4, 90, (2, 30))
    whole, slots = Slots(), Slots()
    policy = KIVI(4, group_size, residual).policy()
    with torch.no_grad():
        for cache, policies in ((whole, []), (slots, [policy])):
            prefill(body, {"input_ids": ids[:, :9], "attention_mask": torch.ones_like(ids[:, :9])}, policies, cache)
        for n in range(10, 31):
            step(body, ids[:, n - 1 : n], whole)
            step(body, ids[:, n - 1 : n], slots)
            kept, full = slots.layers[0], whole.layers[0]  # the first layer's are the same whatever attention sees
            coded = max(0, (n - residual) // group_size) * group_size
            assert policy.holds(n) == {"kept": n, "coded": coded, "bits": 4}
            assert (kept.grouped, kept.k.shape[2]) == (coded, n - coded)
            assert residual <= n - coded < residual + group_size
            assert torch.equal(kept.k, full.k[:, :, coded:])
            assert torch.equal(kept.v, full.v[:, :, coded:])
            k, _ = kept.read()
            assert (k[:, :, :coded] != full.k[:, :, :coded]).any() == (coded > 0)


def differences(bits: int, seed: int) -> Tensor:
    """Of the logits of eight steps with all of the prompt in codes, over the greatest one without."""
    torch.manual_seed(seed)
    model, batch = make("llama")
    body, said = anatomy.of(model), torch.randint(4, 90, (4, 8))

    def logits(*policies: object) -> Tensor:
        slots = Slots()
        prefill(body, batch, policies, slots)
        return torch.cat([step(body, said[:, at : at + 1], slots).logits for at in range(8)], 1)

    with torch.no_grad():
        wanted, found = logits(), logits(KIVI(bits, 4, 0).policy())
    return (found - wanted).abs().mean() / wanted.abs().mean()


def test_eight_bits_are_close_and_fewer_are_less_so() -> None:
    for seed in range(5):
        eight, four, two = (float(differences(bits, seed)) for bits in (8, 4, 2))
        assert eight < 0.01
        assert 4 * eight < four
        assert 2 * four < two


def test_where_some_channels_of_keys_are_large_grids_by_channel_lose_less_than_by_token() -> None:
    """The paper's reason: outlier channels are planted, and errors of attention's logits compared."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        k, q = (torch.randn(1, 1, 32, 16, generator=generator) for _ in range(2))
        k[..., :2] += 20
        by_channel, _ = Grouped.of(k, k, 2, 16).read()
        by_token = Codes.of(k, 2).values()
        wanted = q @ k.mT
        channel, token = ((q @ one.mT - wanted).square().mean() for one in (by_channel, by_token))
        assert 4 * channel < token


def test_four_bits_take_under_a_third_of_16_bits() -> None:
    k, v = (torch.randn(1, 2, 256, 64).bfloat16() for _ in range(2))
    ratio = Grouped.of(k, v, 4, 32).nbytes / (k.nbytes + v.nbytes)
    assert ratio == pytest.approx((4 + 2 * 16 / 32) / 16)


def test_knobs_that_cannot_be_right_are_refused() -> None:
    for knobs, said in (
        ({"bits": 3}, "bits: got 3; accepted: 2, 4, 8"),
        ({"group_size": 5}, "group_size: got 5; accepted: a multiple of 2"),
        ({"bits": 2, "group_size": 2}, "group_size: got 2; accepted: a multiple of 4"),
        ({"group_size": 0}, "group_size: got 0"),
        ({"residual": -1}, "residual: got -1"),
    ):
        with pytest.raises(ValueError, match=said):
            KIVI(**knobs).policy()
