"""Dense copies of small models: the same answers, held only within the bound, and said."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trimtab.core.linear import Linear
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.runtime.held import Held, held_bytes
from trimtab.runtime.kernels import INT4_ROWS
from trimtab.runtime.lower import lower


def quantized(bits: int, dtype: torch.dtype = torch.float32) -> Quantized:
    codes = torch.randint(0, 2**bits, (32, 64), dtype=torch.uint8)
    return Quantized.of(codes, (torch.rand(32, 2) * 0.1 + 0.01).to(dtype), None, bits)


def masked() -> Masked:
    return Masked.of(torch.randn(32, 64), torch.rand(32, 64) > 0.5)


def far(y: Tensor, w: Weight, x: Tensor, bias: Tensor) -> float:
    reference = x.double() @ w.dense().double().T + bias.double()
    return ((y.double() - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("make", [lambda: quantized(4), lambda: quantized(3), masked])
def test_many_rows_are_multiplied_with_the_copy(make: Callable[[], Weight]) -> None:
    w = make()
    host = Linear(w, nn.Parameter(torch.randn(32)), "layer")
    report = lower(nn.Sequential(host), capability="AVX2", compiled=False)
    assert report.held == 32 * 64 * 4
    assert isinstance(host.kernel, Held)
    assert torch.equal(host.kernel.value, w.dense())
    assert report.kernels == {"layer": "int4pack" if isinstance(w, Quantized) and w.bits == 4 else "dense copy"}
    assert host.bias is not None
    for rows in (1, 3, INT4_ROWS + 1):
        x = torch.randn(rows, 64)
        few = host.kernel.few is not None and rows <= INT4_ROWS
        assert far(host(x), w, x, host.bias) < (1.2e-2 if few else 1e-6)


def test_the_bound_is_for_all_copies_together() -> None:
    one, two = Linear(quantized(3), None, "one"), Linear(quantized(3), None, "two")
    model, each = nn.ModuleList([one, two]), 32 * 64 * 4
    assert lower(model, hold=2 * each, compiled=False).held == 2 * each
    assert lower(model, hold=2 * each - 1, compiled=False).held == 0
    assert one.kernel is two.kernel is None
    two.w = one.w
    assert lower(model, hold=each, compiled=False).held == each, "a weight that two hosts share has one copy"
    assert one.kernel is two.kernel


def test_what_is_dense_needs_no_copy_and_what_is_released_gets_none() -> None:
    assert held_bytes([Dense(torch.randn(4, 8))], torch.float32) == 0
    host = Linear(quantized(4), None, "layer")
    assert lower(nn.Sequential(host), release=True, capability="AVX2", compiled=False).held == 0


def test_a_bfloat16_model_is_held_as_this_cpu_multiplies() -> None:
    w, x = quantized(3, torch.bfloat16), torch.randn(3, 64).bfloat16()
    host = Linear(w, None, "layer")
    for dtype in (torch.bfloat16, torch.float32):
        assert lower(nn.Sequential(host), dtype=dtype, compiled=False).held == 32 * 64 * dtype.itemsize
        assert host(x).dtype == torch.bfloat16
        assert far(host(x), w, x, torch.zeros(32)) < 1.2e-2
