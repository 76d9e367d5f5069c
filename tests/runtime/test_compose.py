"""Kernels of sums and chains answer as the reference tree does; what has none says which leaf is why."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trimtab.core.blocks import Blocks
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Chain, Sum
from trimtab.core.linear import Embedding, Linear
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight, rows
from trimtab.quantize import FP4, NF4
from trimtab.runtime.compose import Added, Chained
from trimtab.runtime.held import Held
from trimtab.runtime.kernels import INT4_ROWS, INT8_ROWS, Packed4
from trimtab.runtime.lower import LowerReport
from trimtab.runtime.lower import lower as lower_for

OUT, WIDTH = 48, 128
SITE = Site("layer", lambda: torch.empty(0, 0))  # not looked at
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 2.5e-2}  # three roundings to bfloat16, one after another


def lower(model: nn.Module, release: bool = False, hold: int = 0) -> LowerReport:
    return lower_for(model, release=release, capability="AVX2", compiled=False, hold=hold)


def quantized(bits: int, group: int, symmetric: bool, dtype: torch.dtype) -> Quantized:
    codes = torch.randint(0, 2**bits, (OUT, WIDTH), dtype=torch.uint8)
    zero = None if symmetric else torch.randint(0, 2**bits, (OUT, WIDTH // group), dtype=torch.uint8)
    return Quantized.of(codes, (torch.rand(OUT, WIDTH // group) * 0.1 + 0.01).to(dtype), zero, bits)


def thin(dtype: torch.dtype) -> LowRank:
    return LowRank(torch.randn(OUT, 4).to(dtype), torch.randn(4, WIDTH).to(dtype) * 0.1)


def few(dtype: torch.dtype) -> Masked:
    return Masked.of(torch.randn(OUT, WIDTH).to(dtype), torch.rand(OUT, WIDTH) < 0.01)


def diagonal(dtype: torch.dtype) -> Diagonal:
    return Diagonal((torch.rand(WIDTH) + 0.5).to(dtype))


Make = Callable[[torch.dtype], Weight]
INT4: dict[str, Make] = {
    "int4pack x blocks": lambda dtype: Chain([quantized(4, 32, False, dtype), Blocks(WIDTH, 16)]),
    "int4pack + low-rank": lambda dtype: Sum([quantized(4, 32, False, dtype), thin(dtype)]),
    "int4pack x diagonal": lambda dtype: Chain([quantized(4, 64, False, dtype), diagonal(dtype)]),
    "int4pack x diagonal + low-rank": lambda dtype: Sum(
        [Chain([quantized(4, 128, True, dtype), diagonal(dtype)]), thin(dtype)]
    ),
    "int4pack + sparse": lambda dtype: Sum([quantized(4, 64, False, dtype), few(dtype)]),
    "int4pack + low-rank + low-rank": lambda dtype: Sum(
        [Sum([quantized(4, 32, False, dtype), thin(dtype)]), thin(dtype)]
    ),
}
INT8: dict[str, Make] = {
    "int8pack + low-rank": lambda dtype: Sum([quantized(8, WIDTH, True, dtype), thin(dtype)]),
    "int8pack x diagonal": lambda dtype: Chain([quantized(8, WIDTH, True, dtype), diagonal(dtype)]),
}


def expected(w: Weight, x: Tensor, bias: Tensor) -> Tensor:
    """In float64 from the leaves: the dense matrix of an expression in bfloat16 is itself rounded."""
    return x.double() @ exact(w).T + bias.double()


def exact(w: Weight) -> Tensor:
    if isinstance(w, Sum):
        return sum((exact(part) for part in w), torch.zeros(OUT, WIDTH, dtype=torch.float64))
    if isinstance(w, Chain):
        first, last = w
        return exact(first) @ exact(last)
    return w.left.double() @ w.right.double() if isinstance(w, LowRank) else w.dense().double()


def far(y: Tensor, reference: Tensor) -> float:
    return ((y.double() - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*INT4, *INT8])
def test_expressions_answer_as_the_reference(name: str, dtype: torch.dtype, release: bool) -> None:
    w, bias = {**INT4, **INT8}[name](dtype), nn.Parameter(torch.randn(OUT, dtype=dtype))
    limit, host = INT4_ROWS if name in INT4 else INT8_ROWS, Linear(w, bias, "layer")
    rows = {count: torch.randn(count, WIDTH, dtype=dtype) for count in (1, 6, limit, limit + 1, 150)}
    references = {count: expected(w, x, bias) for count, x in rows.items()}
    assert lower(nn.Sequential(host), release=release).kernels == {"layer": name}
    for count, x in rows.items():
        y = host(x.view(1, count, WIDTH))
        packed = count <= limit or (release and name in INT4)
        assert (y.dtype, y.shape) == (dtype, (1, count, OUT))
        assert far(y[0], references[count]) < TOLERANCE[torch.bfloat16 if packed else dtype]


@pytest.mark.parametrize("name", [*INT4, *INT8])
def test_without_rows_there_are_none(name: str) -> None:
    host = Linear({**INT4, **INT8}[name](torch.float32), None, "layer")
    lower(nn.Sequential(host))
    assert host(torch.randn(2, 0, WIDTH)).shape == (2, 0, OUT)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Sum([quantized(3, 32, False, torch.float32), thin(torch.float32)]), "3 bits"),
        (lambda: Chain([quantized(4, 16, False, torch.float32), diagonal(torch.float32)]), "group_size 16"),
        (
            lambda: Sum([Masked.of(torch.randn(OUT, WIDTH), torch.rand(OUT, WIDTH) > 0.5), thin(torch.float32)]),
            "Masked",
        ),
        (lambda: Sum([Dense(torch.randn(OUT, WIDTH)), thin(torch.float32)]), "Dense weight"),
        (lambda: Sum([NF4()(Dense(torch.randn(OUT, WIDTH)), SITE), thin(torch.float32)]), "nf4 levels: kernels take"),
        (
            lambda: FP4(rotate=32)(Dense(torch.randn(OUT, WIDTH)), SITE),
            "simulated: this CPU has no arithmetic of 4-bit",
        ),
        (lambda: Sum([thin(torch.float32), thin(torch.float32)]), "Sum weight"),
        (lambda: thin(torch.float32), "LowRank weight"),
    ],
)
def test_an_expression_with_a_leaf_that_has_none_says_why_and_stays(make: Callable[[], Weight], why: str) -> None:
    w = make()
    host = Linear(w, None, "layer")
    report = lower(nn.Sequential(host), release=True)
    assert report.kernels == {}
    assert why in report.reasons["layer"]
    assert host.kernel is None
    assert host.w is w
    x = torch.randn(3, WIDTH)
    assert torch.equal(host(x), w(x))
    report = lower(nn.Sequential(host), hold=1 << 20)
    assert report.kernels == {"layer": "dense copy"}
    assert far(host(x), expected(w, x, torch.zeros(OUT))) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("name", [*INT4, *INT8])
def test_small_models_hold_a_copy_of_the_whole_expression(name: str) -> None:
    w = {**INT4, **INT8}[name](torch.float32)
    host, limit = Linear(w, None, "layer"), INT4_ROWS if name in INT4 else INT8_ROWS
    report = lower(nn.Sequential(host), hold=1 << 20)
    assert (report.kernels, report.held) == ({"layer": name}, OUT * WIDTH * 4)
    assert isinstance(host.kernel, Held)
    assert host.kernel.rows == limit
    assert isinstance(host.kernel.few, Added | Chained)
    for count in (1, limit + 1):
        x = torch.randn(count, WIDTH)
        tolerance = TOLERANCE[torch.bfloat16 if count <= limit else torch.float32]
        assert far(host(x), expected(w, x, torch.zeros(OUT))) < tolerance


def test_what_is_released_keeps_its_shape_and_its_thin_parts() -> None:
    w = INT4["int4pack x diagonal + low-rank"](torch.bfloat16)
    stored = {id(value) for value in w.parameters()}
    host = Linear(w, None, "layer")
    lower(nn.Sequential(host), release=True)
    assert host.w.spec() == w.spec()
    assert all(value.is_meta for value in host.w.state_dict().values())
    assert isinstance(host.kernel, Added)
    chain, low = host.kernel.parts
    assert isinstance(chain, Chained)
    packed, back = chain.parts
    assert isinstance(packed, Packed4)
    assert packed.w is None
    assert isinstance(low, LowRank)
    assert isinstance(back, Diagonal)
    assert {id(low.left), id(low.right), id(back.value)} == stored, "no copies"


@pytest.mark.parametrize("method", [FP4("mxfp4", rotate=64), FP4("nvfp4"), NF4()])
def test_what_is_simulated_is_told_from_what_has_no_kernel_anywhere(method: FP4 | NF4) -> None:
    """4-bit floats have arithmetic of their own on other hardware; NF4 is made dense wherever it is multiplied."""
    w = Sum([method(Dense(torch.randn(OUT, WIDTH)), SITE), thin(torch.float32)])
    host, plain = Linear(w, None, "layer"), Linear(quantized(4, 32, False, torch.float32), None, "plain")
    for hold in (0, 1 << 20):
        report = lower(nn.ModuleList([host, plain]), hold=hold)
        assert report.simulated == (("layer",) if isinstance(method, FP4) else ())
        assert report.kernels == {"plain": "int4pack"} | ({"layer": "dense copy"} if hold else {})
        assert f"layer: {'dense copy' if hold else 'reference'} (" in str(report)
        assert ("simulated" in report.reasons["layer"]) == isinstance(method, FP4)
        x = torch.randn(3, WIDTH)
        assert far(host(x), expected(w, x, torch.zeros(OUT))) < TOLERANCE[torch.float32]


def test_an_embedding_that_shares_an_expression_keeps_its_codes() -> None:
    w = INT4["int4pack + low-rank"](torch.bfloat16)
    table, head = Embedding(w, "table"), Linear(w, None, "head")
    report = lower(nn.ModuleList([table, head]), release=True)
    assert report.kernels == {"head": "int4pack + low-rank"}
    assert report.kept == {"head": "an embedding reads the same codes"}
    assert table.w is head.w is w
    assert isinstance(head.kernel, Added)
    packed, _ = head.kernel.parts
    assert isinstance(packed, Packed4)
    assert packed.w is next(iter(w))  # type: ignore[call-overload]
    index = torch.tensor([3, 9])
    assert torch.equal(table(index), rows(w, index))
