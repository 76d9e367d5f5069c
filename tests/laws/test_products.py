"""Second moments and what is made of them, in each form that this machine has, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trimtab.core import native, products, triangular
from trimtab.core.finite import finite
from trimtab.core.native import add_sizes
from trimtab.core.products import add_moment, mirror, product, quadratic
from trimtab.core.triangular import cholesky, inverted

SHAPES = [(37, 5), (64, 32), (513, 70), (1, 33), (700, 129)]
FORMS = [form for form, there in {
    "tiles": native.amx(), "wide": products._wide_product() is not None, "plain": True,
}.items() if there]  # fmt: skip


@pytest.fixture(params=FORMS, name="form")
def _form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "tiles":
        monkeypatch.setattr(products, "amx", lambda: False)
    if request.param == "plain":
        monkeypatch.setattr(products, "_wide_product", lambda: None)
    monkeypatch.setattr(products, "BLOCK", 16)
    return str(request.param)


def moment(x: Tensor, weights: tuple[float, ...]) -> Tensor:
    total = torch.zeros(x.shape[1], x.shape[1])
    for weight in weights:
        add_moment(total, x, weight)
    mirror(total)
    return total


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "n"), SHAPES)
def test_moments_are_those_of_float64(form: str, rows: int, n: int, dtype: torch.dtype) -> None:
    x = (torch.randn(rows, n) * torch.logspace(-2, 1, n) + 0.1).to(dtype)
    got, expected = moment(x, (1.0, 0.25)), 1.25 * x.double().T @ x.double()
    torch.testing.assert_close(got.double(), expected, rtol=2e-6, atol=2e-6 * expected.abs().max().item())
    assert torch.equal(got, got.T)


def test_no_rows_add_nothing_and_rows_may_be_a_view(form: str) -> None:
    x = torch.randn(64, 96).bfloat16()
    assert not moment(x[:0], (1.0,)).any()
    part = x[::2, 10:50]
    torch.testing.assert_close(moment(part, (1.0,)), moment(part.clone(), (1.0,)), rtol=0, atol=0)


def test_threads_change_no_bit(form: str) -> None:
    x, before, found = torch.randn(300, 200).bfloat16(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(moment(x, (1.0,)))
    finally:
        torch.set_num_threads(before)
    for one in found[1:]:
        torch.testing.assert_close(
            one, found[0], rtol=0 if form == "tiles" else 1e-6, atol=0 if form == "tiles" else 1e-4
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_form_of_a_symmetric_matrix_is_that_of_float64(form: str, dtype: torch.dtype) -> None:
    x, a = torch.randn(50, 70).to(dtype), torch.randn(200, 70)
    h = a.T @ a
    expected = ((x.double() @ h.double()) * x.double()).sum().item()
    assert quadratic(x, h) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_product_is_summed_in_float32(form: str, dtype: torch.dtype) -> None:
    a, b = torch.randn(30, 300).to(dtype), torch.randn(500, 20).to(dtype)[::2][:300].repeat(2, 1)[:300]
    got = product(a, b)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(product(b.T, a.T), got.T, rtol=1e-5, atol=1e-4)


@pytest.fixture(params=["potrf", "torch"], name="lapack")
def _lapack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(triangular, "_potrf", lambda: None)
    elif triangular._potrf() is None:
        assert not torch.backends.mkl.is_available(), "torch's own MKL has it"


@pytest.mark.parametrize("n", [1, 7, 64, 101])
@pytest.mark.parametrize("view", [lambda h: h, lambda h: h.flip(0, 1), lambda h: h.T])
@pytest.mark.usefixtures("lapack")
def test_the_factor_and_its_inverse(n: int, view: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triangular, "LEAF", 8)
    a = torch.randn(3 * n, n)
    h = view(a.T @ a / n)
    lower = cholesky(h.clone())
    assert lower is not None
    assert torch.equal(lower, lower.tril())
    torch.testing.assert_close(lower @ lower.T, h, rtol=1e-4, atol=1e-4)
    made = inverted(lower)
    assert torch.equal(made, made.tril())
    torch.testing.assert_close(made.double() @ lower.double(), torch.eye(n).double(), rtol=0, atol=1e-4)


@pytest.mark.usefixtures("lapack")
def test_what_is_not_positive_definite_has_no_factor() -> None:
    assert cholesky(torch.eye(9) - 0.5) is None


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
def test_sizes_and_squares_are_summed_and_the_largest_kept(
    compiled: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    x = (torch.randn(90, 37) * torch.logspace(-2, 2, 37)).to(dtype)
    (total, squares), largest = torch.zeros(2, 37), torch.full((37,), 1.5)
    for part in (x[:50], x[50:], x[:0], x[::3]):
        add_sizes(total, squares, largest, part)
    size = torch.cat([x, x[::3]]).double().abs()
    torch.testing.assert_close(total.double(), size.sum(0), rtol=1e-5, atol=0)
    torch.testing.assert_close(squares.double(), size.square().sum(0), rtol=1e-5, atol=0)
    assert torch.equal(largest.double(), size.amax(0).clamp(min=1.5))
    x[3, 5] = torch.nan
    add_sizes(total, squares, largest, x)
    add_sizes(total, squares, largest, x[4:])
    assert (largest.isnan() == (torch.arange(37) == 5)).all(), "NaN stays"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_that_is_no_number_is_found(bad: float) -> None:
    t = torch.randn(30, 40)
    assert finite(t)
    assert finite(t[:0])
    t[17, 23] = bad
    assert not finite(t)
