"""The grids themselves: ends, rounding of the scale, the search."""

from __future__ import annotations

import pytest
import torch

from trimtab.core.pack import BITS
from trimtab.quantize.grid import check, decode, encode, fit_grid, shrinks, span_grid

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def loss(w, weight, scale, zero, bits, dtype):
    return (
        weight[:, None].double() * (decode(encode(w, scale, zero, bits), scale, zero, dtype) - w).double() ** 2
    ).sum(0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_min_max_is_off_by_at_most_half_a_step(bits: int, symmetric: bool, dtype: torch.dtype) -> None:
    w = torch.randn(16, 200) * 0.1
    scale, zero = fit_grid(w, torch.ones(16), bits, symmetric, False, dtype)
    codes = encode(w, scale, zero, bits)
    assert torch.equal(scale, scale.to(dtype).float())
    assert torch.equal(codes, codes.round())
    assert codes.min() >= 0
    assert codes.max() <= 2**bits - 1
    off = ((codes - zero) * scale - w).abs() / scale
    # the zero is rounded too, which moves an end by up to half a step, and a 16-bit scale is off by 2^-9 of its span
    limit = 0.5 + (0.0 if symmetric else 0.5) + {torch.float32: 1e-4}.get(dtype, 2**bits * 2**-8)
    assert off.max() <= limit
    inside = (codes > 0) & (codes < 2**bits - 1)
    assert off[inside].max() <= 0.5 + 1e-4


def test_a_grid_by_hand() -> None:
    w = torch.tensor([[-0.3], [0.0], [0.2], [1.2]])
    scale, zero = fit_grid(w, torch.ones(4), 2, False, False, torch.float32)
    assert scale.item() == pytest.approx(0.5)
    assert zero.item() == 1  # round(0.3 / 0.5)
    assert encode(w, scale, zero, 2).flatten().tolist() == [0, 1, 1, 3]
    scale, zero = fit_grid(w, torch.ones(4), 2, True, False, torch.float32)
    assert (scale.item(), zero.item()) == (pytest.approx(0.8), 2)  # 1.2 / (2 - 1/2)
    assert encode(w, scale, zero, 2).flatten().tolist() == [2, 2, 2, 3]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_the_search_takes_the_best_of_the_ranges_by_the_given_weight(bits: int, symmetric: bool) -> None:
    w, weight = torch.randn(24, 50), torch.rand(24) ** 3 + 1e-3
    low, high = w.amin(0).clamp(max=0), w.amax(0).clamp(min=0)
    tried = [span_grid(low * s, high * s, bits, symmetric, torch.bfloat16) for s in shrinks(bits)]
    losses = torch.stack([loss(w, weight, *grid, bits, torch.bfloat16) for grid in tried])
    found = loss(w, weight, *fit_grid(w, weight, bits, symmetric, True, torch.bfloat16), bits, torch.bfloat16)
    torch.testing.assert_close(found, losses.min(0).values, rtol=1e-5, atol=0)
    if bits < 8:
        assert (losses.argmin(0) > 0).float().mean() > 0.5, "the full range is rarely the best one"


def test_pieces_of_the_search_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    w, weight = torch.randn(16, 40), torch.rand(16)
    whole = fit_grid(w, weight, 3, False, True, torch.float32)
    monkeypatch.setattr("trimtab.quantize.grid.PIECE", 1)
    one_by_one = fit_grid(w, weight, 3, False, True, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(whole, one_by_one, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_nothing_and_next_to_nothing_become_zero(symmetric: bool, dtype: torch.dtype) -> None:
    w = torch.stack([torch.zeros(8), torch.full((8,), 1e-30), torch.full((8,), 0.7), torch.full((8,), -0.7)], 1)
    scale, zero = fit_grid(w, torch.ones(8), 4, symmetric, True, dtype)
    back = decode(encode(w, scale, zero, 4), scale, zero, dtype)
    assert (scale > 0).all()
    assert back.isfinite().all()
    assert (back[:, :2].abs() <= 1e-30).all()
    torch.testing.assert_close(back[:, 2:], w[:, 2:], rtol=0.08, atol=0)


def test_what_does_not_fit_names_what_does() -> None:
    check(4, -1, 10)
    with pytest.raises(ValueError, match="got 64 for a row of 588; nearest that divides it: 588"):
        check(4, 64, 588)
    with pytest.raises(ValueError, match="got 1 for a row"):
        check(4, 1, 64)
