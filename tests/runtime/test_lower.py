"""Law of lower: every kernel answers as the reference tree does, and what has none says why and stays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trimtab.core.linear import Embedding, Linear
from trimtab.core.weight import Dense, Quantized
from trimtab.runtime import kernels
from trimtab.runtime.kernels import INT4_ROWS, INT8_ROWS, Packed4, dequantize4, pack4
from trimtab.runtime.lower import LowerReport
from trimtab.runtime.lower import lower as lower_for

# Relative to the largest output. bfloat16 keeps 8 bits: inputs and outputs are each rounded by 2^-9.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1.2e-2}
FITS = [(16, 32, 32), (64, 128, 64), (48, 192, 64), (80, 256, 128), (32, 512, 256), (4160, 64, 32), (16, 96, 96),
        (32, 320, 160), (48, 1024, 1024)]  # the last three by repeating scales  # fmt: skip


def lower(model: nn.Module, release: bool = False) -> LowerReport:
    """As on an x86 laptop; where torch has no vector code for the kernels they are slow, but right."""
    return lower_for(model, release=release, capability="AVX2", hold=0, compiled=False)


def quantized(out: int, width: int, bits: int, group: int, symmetric: bool, dtype: torch.dtype) -> Quantized:
    codes = torch.randint(0, 2**bits, (out, width), dtype=torch.uint8)
    zero = None if symmetric else torch.randint(0, 2**bits, (out, width // group), dtype=torch.uint8)
    return Quantized.of(codes, (torch.rand(out, width // group) * 0.1 + 0.01).to(dtype), zero, bits)


def expected(w: Quantized, x: Tensor, bias: Tensor | None = None) -> Tensor:
    y = x.double() @ w.dense().double().T
    return y if bias is None else y + bias.double()


def far(y: Tensor, reference: Tensor) -> float:
    return ((y.double() - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("out", "width", "group"), FITS)
@pytest.mark.parametrize("release", [False, True])
def test_int4_answers_as_the_reference(
    out: int, width: int, group: int, symmetric: bool, dtype: torch.dtype, release: bool
) -> None:
    w = quantized(out, width, 4, group, symmetric, dtype)
    bias = nn.Parameter(torch.randn(out, dtype=dtype))
    host = Linear(w, bias, "layer")
    assert lower(nn.Sequential(host), release=release).kernels == {"layer": "int4pack"}
    for rows in ((1,), (2, 3), (INT4_ROWS,), (INT4_ROWS + 1,), (2, 150)):
        x = torch.randn(*rows, width, dtype=dtype)
        y = host(x)
        packed = release or x.numel() // width <= INT4_ROWS
        assert (y.dtype, y.shape) == (dtype, (*rows, out))
        assert far(y, expected(w, x, bias)) < TOLERANCE[torch.bfloat16 if packed else dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("out", "width"), [(64, 128), (7, 48), (1, 16), (100, 640)])
@pytest.mark.parametrize("release", [False, True])
def test_int8_answers_as_the_reference(out: int, width: int, dtype: torch.dtype, release: bool) -> None:
    w = quantized(out, width, 8, width, True, dtype)
    host = Linear(w, None, "layer")
    assert lower(nn.Sequential(host), release=release).kernels == {"layer": "int8pack"}
    for rows in ((1,), (2, 3), (INT8_ROWS,), (INT8_ROWS + 1,), (2, 50)):
        x = torch.randn(*rows, width, dtype=dtype)
        y = host(x)
        few = x.numel() // width <= INT8_ROWS
        assert (y.dtype, y.shape) == (dtype, (*rows, out))
        assert far(y, expected(w, x)) < TOLERANCE[torch.bfloat16 if few else dtype]


@pytest.mark.parametrize(
    ("out", "width", "bits", "group", "symmetric", "why"),
    [
        (24, 64, 4, 32, False, "24 rows: int4 takes multiples of 16"),
        (16, 160, 4, 80, True, "group_size 80: int4 takes multiples of 32"),
        (16, 32, 4, 16, False, "group_size 16"),
        (16, 64, 3, 32, False, "3 bits"),
        (16, 64, 2, 32, True, "2 bits"),
        (16, 64, 8, 64, False, "asymmetric"),
        (16, 64, 8, 32, True, "group_size 32: int8 takes one scale"),
        (16, 24, 8, 24, True, "rows of 24: int8 takes multiples of 16"),
        (16, 33, 8, 33, True, "rows of 33: int8 takes multiples of 16"),
    ],
)
def test_what_has_no_kernel_says_why_and_stays_the_reference(
    out: int, width: int, bits: int, group: int, symmetric: bool, why: str
) -> None:
    w = quantized(out, width, bits, group, symmetric, torch.float32)
    host = Linear(w, None, "layer")
    report = lower(nn.Sequential(host), release=True)
    assert report.kernels == {}
    assert why in report.reasons["layer"]
    assert why in str(report)
    assert host.w is w
    assert host.kernel is None
    for rows in (1, 200):
        x = torch.randn(rows, width)
        assert torch.equal(host(x), w(x))
        assert far(host(x), expected(w, x)) < TOLERANCE[torch.float32]


def test_a_dense_weight_and_another_cpu_have_none() -> None:
    host = Linear(Dense(torch.randn(16, 32)), None, "layer")
    assert "Dense weight" in lower(nn.Sequential(host)).reasons["layer"]
    host.w = quantized(16, 32, 4, 32, True, torch.float32)
    assert "DEFAULT" in lower_for(nn.Sequential(host), capability="DEFAULT", hold=0, compiled=False).reasons["layer"]
    assert host.kernel is None


@pytest.mark.parametrize(("bits", "release"), [(4, False), (4, True), (8, False)])
def test_no_rows_give_no_rows(bits: int, release: bool) -> None:
    host = Linear(quantized(32, 64, bits, 64, True, torch.float32), None, "layer")
    lower(nn.Sequential(host), release=release)
    assert host(torch.randn(2, 0, 64)).shape == (2, 0, 32)


def test_rows_that_do_not_lie_together_are_taken_as_they_are() -> None:
    for bits in (4, 8):
        w = quantized(32, 64, bits, 64, True, torch.float32)
        host = Linear(w, None, "layer")
        lower(nn.Sequential(host))
        x = torch.randn(64, 5).T
        assert far(host(x), expected(w, x)) < TOLERANCE[torch.bfloat16]


def test_nothing_is_freed_unless_asked_for() -> None:
    w = quantized(32, 64, 4, 32, False, torch.float32)
    host = Linear(w, None, "layer")
    before = {key: value.clone() for key, value in w.state_dict().items()}
    lower(nn.Sequential(host))
    assert host.w is w
    assert all(torch.equal(value, before[key]) for key, value in host.w.state_dict().items())
    lower(nn.Sequential(host), release=True)
    assert host.w.shape == (32, 64)
    assert all(value.is_meta for value in host.w.state_dict().values())


def test_a_tied_embedding_keeps_its_codes_and_the_head_gets_a_kernel() -> None:
    w = quantized(64, 32, 4, 32, False, torch.bfloat16)
    table, head = Embedding(w, "table"), Linear(w, None, "head")
    report = lower(nn.ModuleList([table, head]), release=True)
    assert report.kernels == {"head": "int4pack"}
    assert report.kept == {"head": "an embedding reads the same codes"}
    assert table.w is head.w is w
    assert isinstance(head.kernel, Packed4)
    assert head.kernel.w is w, "codes that stay serve many rows as well"
    assert torch.equal(table(torch.tensor([3, 9])), w.dense()[[3, 9]])


def test_hosts_that_share_a_weight_share_a_kernel() -> None:
    w = quantized(64, 32, 4, 32, False, torch.bfloat16)
    one, two = Linear(w, None, "one"), Linear(w, None, "two")
    assert len(lower(nn.ModuleList([one, two]), release=True).kernels) == 2
    assert one.kernel is two.kernel
    assert one.w is two.w


@pytest.mark.parametrize("symmetric", [True, False])
def test_dequantized_numbers_are_those_of_dense(symmetric: bool) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        w = quantized(32, 128, 4, 64, symmetric, dtype)
        assert torch.equal(dequantize4(w, dtype), w.dense())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("out", [48, 80])
def test_many_rows_in_parts_answer_as_at_once(bits: int, out: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head of 80 rows goes in parts of 32, the last one shorter."""
    w = quantized(out, 64, bits, 64, bits == 8, torch.float32)
    host, x = Linear(w, None, "head"), torch.randn(INT4_ROWS + 5, 64)
    lower(nn.Sequential(host))
    monkeypatch.setattr(kernels, "WEIGHTS", 32 * 64)
    assert far(host(x), expected(w, x)) < TOLERANCE[torch.float32]


def test_packing_in_parts_is_packing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    w = quantized(272, 64, 4, 32, False, torch.bfloat16)
    whole = pack4(w, 32)
    monkeypatch.setattr(kernels, "PACK_ROWS", 64)
    parts = pack4(w, 32)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
