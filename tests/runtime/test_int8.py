"""The integer product: its sums are the reference's bit for bit, and so is what a host answers with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trimtab.core.acts import LONGEST, TOP, DynamicInt8, Rounding, integers
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.joins import Chain, Sum
from trimtab.core.linear import Embedding, Linear
from trimtab.core.staticacts import StaticInt8, activation
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.runtime import int8
from trimtab.runtime.int8 import IntegerProduct, sums
from trimtab.runtime.lower import lower

SHAPES = [(1, 16, 32), (3, 7, 48), (17, 33, 100), (64, 192, 640), (33, 1, 5)]


def weight(out: int, width: int, dtype: torch.dtype = torch.float32) -> Quantized:
    codes = torch.randint(0, 256, (out, width), dtype=torch.uint8)
    return Quantized.of(codes, (torch.rand(out, 1) * 0.1 + 0.01).to(dtype), None, 8)


def rounding(w: Weight, bias: nn.Parameter | None = None, acts: Rounding | None = None) -> Linear:
    host = Linear(w, bias, "layer")
    host.acts = acts or DynamicInt8()
    return host


def slow(x: Tensor, w: Quantized) -> tuple[list[list[int]], list[float]]:
    """Token by token and input by input: the integers that are summed, in Python's own, and the scales."""
    found, scales = [], []
    for row in x.double().tolist():
        scale = float(torch.tensor(max(abs(v) for v in row), dtype=torch.float32) / 127)
        codes = [round(float(torch.tensor(v).float() / torch.tensor(scale).float())) for v in row]
        found.append([sum(c * (k - 128) for c, k in zip(codes, line, strict=True)) for line in w.codes.tolist()])
        scales.append(scale)
    return found, scales


@pytest.mark.parametrize(("rows", "out", "width"), SHAPES[:3])
def test_codes_scales_and_sums_are_those_of_plain_integers(rows: int, out: int, width: int) -> None:
    x, w = torch.randn(rows, width) * torch.logspace(-2, 2, width), weight(out, width)
    c, t = DynamicInt8().codes(x)
    expected, scales = slow(x, w)
    assert t.flatten().tolist() == scales
    assert sums(c, integers(w).codes).tolist() == expected
    assert c.abs().amax(1).tolist() == [TOP] * rows
    y = torch.tensor(expected).double() * torch.tensor(scales).double()[:, None] * w.scale.double().T
    torch.testing.assert_close(DynamicInt8()(w, x).double(), y, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "out", "width"), SHAPES)
@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("acts", [DynamicInt8(), StaticInt8(0.4)])
def test_the_kernel_answers_as_the_reference_bit_for_bit(
    rows: int, out: int, width: int, dtype: torch.dtype, factored: bool, acts: Rounding
) -> None:
    q = weight(out, width, dtype)
    w: Weight = Chain([q, Diagonal((torch.rand(width) * 4 + 0.1).to(dtype))]) if factored else q
    host = rounding(w, nn.Parameter(torch.randn(out, dtype=dtype)), acts)
    x = torch.randn(2, rows, width, dtype=dtype) * 3
    expected = host(x)
    report = lower(nn.Sequential(host), capability="AVX2", compiled=False)
    assert report.kernels == {"layer": "int8 x int8" + " x diagonal" * factored}
    assert report.held == 0, "no dense copy beside it"
    assert not report.reasons
    assert isinstance(host.kernel, IntegerProduct)
    assert torch.equal(host(x), expected)
    assert (expected.dtype, expected.shape) == (dtype, (2, rows, out))
    exact = x.double() @ w.dense().double().T + host.bias.double()
    assert (expected.double() - exact).norm() < (0.03 if acts == DynamicInt8() else 0.06) * exact.norm()
    assert host(x[:0]).shape == (0, rows, out)


@pytest.mark.parametrize("piece", [1, 64, 130, 1000])
def test_pieces_of_any_size_give_the_same_bits(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    host = rounding(Chain([weight(24, 64), Diagonal(torch.rand(64) + 0.5)]), nn.Parameter(torch.randn(24)))
    x = torch.randn(3, 7, 64)
    expected = host(x)
    lower(nn.Sequential(host), capability="AVX2", compiled=False)
    monkeypatch.setattr(int8, "PIECE", piece)
    assert torch.equal(host(x), expected)


def test_rows_of_the_longest_kind_add_up_in_32_bits() -> None:
    """The named bound: each product at its largest, 127 * 128, in as many inputs as there may be, either sign."""
    assert LONGEST * TOP * 128 < 2**31 <= (LONGEST + 1) * TOP * 128
    w = Quantized.of(torch.zeros(2, LONGEST, dtype=torch.uint8), torch.ones(2, 1), None, 8)
    x = torch.ones(2, LONGEST) * torch.tensor([[1.0], [-1.0]])
    found = sums(DynamicInt8().codes(x)[0], integers(w).codes)
    assert found.tolist() == [[-LONGEST * TOP * 128] * 2, [LONGEST * TOP * 128] * 2]
    longer = Quantized.of(torch.zeros(1, LONGEST + 1, dtype=torch.uint8), torch.ones(1, 1), None, 8)
    with pytest.raises(TypeError, match=f"rows of {LONGEST + 1}; accepted: up to {LONGEST}"):
        DynamicInt8()(longer, torch.ones(1, LONGEST + 1))


def test_a_token_of_zeros_gives_the_bias_and_one_that_is_no_number_stays_none() -> None:
    w, bias = weight(5, 8), torch.randn(5)
    y = DynamicInt8()(w, torch.stack([torch.zeros(8), torch.full((8,), torch.nan), torch.ones(8) * torch.inf]), bias)
    assert torch.equal(y[0], bias)
    assert not y[1:].isfinite().any()
    tiny = torch.full((1, 8), 2.52e-43)  # the scale is rounded to so few bits that a code would pass 127
    assert DynamicInt8().codes(tiny)[0].tolist() == [[TOP] * 8]


def test_a_cpu_whose_product_saturates_gets_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def pairs(c: Tensor, k: Tensor) -> Tensor:
        """As instructions before VNNI: one side is shifted to be unsigned, and two products are added in 16 bits."""
        both = ((c.int() + 128)[:, None] * k.int()[None]).unflatten(2, (-1, 2)).sum(3).clamp(-(2**15), 2**15 - 1)
        return both.sum(2) - 128 * k.int().sum(1)

    host, x = rounding(weight(16, 32)), torch.randn(3, 32)
    expected = host(x)
    monkeypatch.setattr(int8, "sums", pairs)
    report = lower(nn.Sequential(host), capability="AVX2", compiled=False)
    assert (report.kernels, host.kernel) == ({}, None)
    assert str(report) == "layer: reference (this CPU's integer product saturates in 16 bits)"
    assert torch.equal(host(x), expected)


def test_without_vector_units_there_is_no_kernel_and_the_reason_is_said() -> None:
    host = rounding(weight(16, 32))
    assert "vectorized for AVX2" in lower(nn.Sequential(host), capability="DEFAULT").reasons["layer"]
    assert host.kernel is None


def test_hosts_that_share_a_weight_share_a_kernel_only_where_they_round_alike() -> None:
    w = weight(16, 32)
    model = nn.ModuleList([rounding(w), rounding(w), Linear(w, None, "plain")])
    report = lower(model, capability="AVX2", compiled=False, hold=0)
    assert model[0].kernel is model[1].kernel
    assert report.kernels == {"layer": "int8 x int8", "plain": "int8pack"}


def test_released_codes_are_the_kernels_own_unless_an_embedding_reads_them() -> None:
    host, x = rounding(Chain([weight(16, 32), Diagonal(torch.rand(32) + 0.5)])), torch.randn(3, 32)
    expected = host(x)
    lower(nn.Sequential(host), release=True, capability="AVX2", compiled=False)
    assert all(t.is_meta for t in host.w.state_dict().values())
    assert torch.equal(host(x), expected)
    tied = rounding(weight(16, 32))
    model = nn.ModuleList([tied, Embedding(tied.w, "table")])
    report = lower(model, release=True, capability="AVX2", compiled=False)
    assert report.kept == {"layer": "an embedding reads the same codes"}
    assert not any(t.is_meta for t in tied.w.state_dict().values())


@pytest.mark.parametrize(
    "w",
    [
        Dense(torch.randn(4, 8)),
        Quantized.of(torch.zeros(4, 8, dtype=torch.uint8), torch.ones(4, 1), None, 4),
        Quantized.of(torch.zeros(4, 8, dtype=torch.uint8), torch.ones(4, 2), None, 8),
        Quantized.of(torch.zeros(4, 8, dtype=torch.uint8), torch.ones(4, 1), torch.zeros(4, 1, dtype=torch.uint8), 8),
        Sum([weight(4, 8), LowRank(torch.randn(4, 1), torch.randn(1, 8))]),
        Chain([weight(4, 8), LowRank(torch.randn(8, 1), torch.randn(1, 8))]),
    ],
)
def test_weights_that_are_no_row_of_8_bit_codes_are_refused_by_kind(w: Weight) -> None:
    with pytest.raises(TypeError, match=f"got a {type(w).__name__} weight .* .group_size -1."):
        rounding(w)(torch.randn(2, 8))


def test_no_gradient_comes_through_and_whoever_asks_is_told() -> None:
    host, x = rounding(weight(4, 8)), torch.randn(2, 8, requires_grad=True)
    for _ in ("reference", "kernel"):
        with pytest.raises(TypeError, match="layer: rounds its input to 8-bit codes, through which"):
            host(x).sum().backward()
        lower(nn.Sequential(host), capability="AVX2", compiled=False)


def test_the_tap_sees_the_input_as_it_came() -> None:
    host, x, seen = rounding(weight(4, 8)), torch.randn(2, 8), list[Tensor]()
    host.tap = lambda _, given: seen.append(given)
    host(x)
    assert torch.equal(seen[0], x)


def test_it_is_rebuilt_from_its_spec_and_no_other() -> None:
    for one in (DynamicInt8(), StaticInt8(0.1)):
        assert activation(one.spec()) == one
    for other in ({"kind": "dynamic_int8", "version": 2}, {"kind": "static_int4", "version": 1, "scale": 1.0}, {}):
        with pytest.raises(ValueError, match="activation spec: got kind"):
            activation(other)
