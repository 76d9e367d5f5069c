"""Laws of Stat: what is merged from parts equals the whole; padding is not seen."""

from __future__ import annotations

import pytest
import torch

from trimtab.core import products
from trimtab.core.stats import AUDIO, IMAGE, KINDS, PADDING, TEXT, VIDEO, Gram

CASES = {"gram": (Gram, lambda x: x.double().T @ x.double())}


@pytest.fixture(params=CASES, name="case")
def _case(request: pytest.FixtureRequest):
    return CASES[request.param]


def seen(make, x, kinds):
    stat = make(x.shape[1])
    stat.add(x, kinds)
    return stat


def test_it_is_the_sum_over_rows_that_are_not_padding(case) -> None:
    make, whole = case
    x, kinds = torch.randn(200, 12) * 3 + 1, torch.randint(0, len(KINDS), (200,))
    expected = whole(x[kinds != PADDING])
    got = seen(make, x, kinds).read().double()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_made_in_blocks_and_symmetric_to_the_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "BLOCK", 16)
    x = (torch.randn(300, 40) * torch.logspace(-2, 1, 40) + 0.1).to(dtype)
    stat = seen(Gram, x, torch.zeros(300, dtype=torch.int64))
    stat.add(x[:7], torch.zeros(7, dtype=torch.int64))
    expected = x.double().T @ x.double() + x[:7].double().T @ x[:7].double()
    torch.testing.assert_close(stat.read().double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(stat.read(), stat.read().T)


def test_what_was_derived_is_forgotten_when_rows_come() -> None:
    gram, x = Gram(6), torch.randn(20, 6)
    for grow in (lambda: gram.add(x, torch.zeros(20, dtype=torch.int64)), lambda: gram.merge(Gram(6))):
        gram.derived["root"] = x
        grow()
        assert not gram.derived


def test_halves_merged_equal_the_whole(case) -> None:
    make, _ = case
    x, kinds = torch.randn(301, 12) * torch.logspace(-2, 2, 12), torch.randint(0, len(KINDS), (301,))
    whole, first = seen(make, x, kinds), seen(make, x[:100], kinds[:100])
    first.merge(seen(make, x[100:], kinds[100:]))
    torch.testing.assert_close(first.read(), whole.read(), rtol=1e-5, atol=1e-5 * whole.read().abs().max().item())
    assert torch.equal(first.seen, whole.seen)


def test_adding_twice_equals_adding_once(case) -> None:
    make, _ = case
    x, kinds = torch.randn(80, 6), torch.full((80,), IMAGE)
    parts = make(6)
    for rows in x.split(30):
        parts.add(rows, kinds[: len(rows)])
    torch.testing.assert_close(parts.read(), seen(make, x, kinds).read(), rtol=1e-5, atol=1e-4)


def test_padding_is_ignored_even_where_it_is_not_a_number(case) -> None:
    make, _ = case
    x, kinds = torch.randn(50, 6), torch.zeros(50, dtype=torch.int64)
    x[10:20], kinds[10:20] = torch.nan, PADDING
    kept = torch.cat([x[:10], x[20:]])
    assert torch.equal(seen(make, x, kinds).read(), seen(make, kept, torch.zeros(40, dtype=torch.int64)).read())


def test_rows_are_counted_by_kind(case) -> None:
    make, _ = case
    kinds = torch.tensor([TEXT] * 5 + [IMAGE] * 4 + [VIDEO] * 3 + [PADDING] * 2 + [AUDIO] * 6)
    stat = seen(make, torch.randn(20, 6), kinds)
    counted = {"text": 5, "image": 4, "video": 3, "padding": 2, "audio": 6}
    assert dict(zip(KINDS, stat.seen.tolist(), strict=True)) == counted
    assert stat.rows == 18


def test_low_precision_rows_are_summed_in_float32(case) -> None:
    make, whole = case
    x = (torch.randn(4096, 8) + 1).bfloat16()
    got = seen(make, x, torch.zeros(4096, dtype=torch.int64)).read()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), whole(x), rtol=1e-5, atol=1e-2)


def test_merging_something_else_is_an_error(case) -> None:
    make, _ = case
    with pytest.raises(TypeError, match="merge"):
        make(4).merge(object())


def test_the_mean_size_of_the_inputs_is_gathered_beside_the_products() -> None:
    x, kinds = torch.randn(301, 12) * torch.logspace(-2, 2, 12), torch.randint(0, 4, (301,))
    expected = x[kinds != PADDING].double().abs().mean(0)
    whole, first = seen(Gram, x, kinds), seen(Gram, x[:100], kinds[:100])
    first.merge(seen(Gram, x[100:], kinds[100:]))
    for gram in (whole, first):
        torch.testing.assert_close(gram.mean_abs().double(), expected, rtol=1e-5, atol=0)
    assert torch.equal(Gram(4).mean_abs(), torch.zeros(4))
