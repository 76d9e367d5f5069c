"""Laws of Stat: what is merged from parts equals the whole; padding is not seen."""

from __future__ import annotations

import pytest
import torch

from trimtab.core import products
from trimtab.core.reservoir import Reservoir, mixed
from trimtab.core.stats import AUDIO, IMAGE, KINDS, PADDING, TEXT, VIDEO, Gram

CASES = {"gram": (Gram, lambda x: x.double().T @ x.double())}
WEIGHTS = torch.tensor([1.0, 0.3, 0.0, 5.0, 2.5])
"""Of padding too, which must not count."""


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


def test_the_second_moment_is_that_of_the_first_rows_that_count() -> None:
    x, kinds = torch.randn(30, 8), torch.tensor([PADDING, TEXT, IMAGE] * 10)
    gram = Gram(8, most=7)
    for part in range(0, 30, 4):
        gram.add(x[part : part + 4], kinds[part : part + 4])
    first, counted = x[kinds != PADDING][:7].double(), x[kinds != PADDING].double()
    torch.testing.assert_close(gram.read().double(), first.T @ first, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gram.squares.double(), counted.square().sum(0), rtol=1e-5, atol=0)
    assert gram.rows == 20


def test_parts_merged_behind_enough_rows_leave_the_second_moment_as_it_is() -> None:
    x, kinds = torch.randn(30, 8), torch.zeros(30, dtype=torch.int64)
    for cut, rows in ((10, 7), (4, 11)):  # enough in the first part; too few there, and as many of the second
        first, second = Gram(8, most=7), Gram(8, most=7)
        first.add(x[:cut], kinds[:cut])
        second.add(x[cut:], kinds[cut:])
        first.merge(second)
        torch.testing.assert_close(first.read(), x[:rows].T @ x[:rows])
        torch.testing.assert_close(first.squares, x.square().sum(0))


def test_audio_counts_in_the_mean_size() -> None:
    gram = seen(Gram, torch.full((6, 4), 3.0), torch.tensor([AUDIO, AUDIO, TEXT, PADDING, AUDIO, TEXT]))
    assert torch.equal(gram.mean_abs(), torch.full((4,), 3.0))


def weighted(width: int) -> Gram:
    return Gram(width, WEIGHTS)


def test_kinds_count_by_their_weights_and_merge_to_the_whole() -> None:
    """H, the mean size and the rows that count, row by row in float64; counts stay counts."""
    x, kinds = torch.randn(301, 12) * torch.logspace(-2, 2, 12) + 1, torch.randint(0, len(KINDS), (301,))
    h, size, total = torch.zeros(12, 12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64), 0.0
    for row, kind in zip(x.double(), kinds.tolist(), strict=True):
        w = 0.0 if kind == PADDING else WEIGHTS[kind].item()
        h, size, total = h + w * row.outer(row), size + w * row.abs(), total + w
    whole, first = seen(weighted, x, kinds), seen(weighted, x[:100], kinds[:100])
    first.merge(seen(weighted, x[100:], kinds[100:]))
    for gram in (whole, first):
        torch.testing.assert_close(gram.read().double(), h, rtol=1e-5, atol=1e-5 * h.abs().max().item())
        torch.testing.assert_close(gram.mean_abs().double(), size / total, rtol=1e-5, atol=0)
        torch.testing.assert_close(gram.squares.double(), h.diagonal(), rtol=1e-5, atol=0)
        assert torch.equal(gram.seen, torch.bincount(kinds, minlength=len(KINDS)))
        assert gram.rows == sum((kinds == kind).sum().item() for kind in (TEXT, IMAGE, AUDIO))


def test_weights_of_one_change_no_bit() -> None:
    x, kinds = torch.randn(64, 8), torch.randint(0, len(KINDS), (64,))
    plain, ones = seen(Gram, x, kinds), seen(lambda width: Gram(width, torch.ones(len(KINDS))), x, kinds)
    assert torch.equal(plain.read(), ones.read())
    torch.testing.assert_close(plain.mean_abs(), ones.mean_abs())


def test_only_what_was_weighed_alike_is_merged() -> None:
    with pytest.raises(ValueError, match="weights differ"):
        Gram(4).merge(weighted(4))


def drawn(rows: int, cuts: tuple[int, ...] = (), seed: int = 0, most: int = 20) -> Reservoir:
    """A reservoir of rows that are their own numbers, added in pieces."""
    x, kinds = torch.arange(float(rows))[:, None], torch.arange(rows) % 4
    sample = Reservoir(1, most, seed)
    for part, kind in zip(x.tensor_split(cuts), kinds.tensor_split(cuts), strict=True):
        sample.add(part, kind)
    return sample


def test_a_sample_does_not_turn_on_how_rows_were_cut_into_calls() -> None:
    whole = drawn(1000)
    assert torch.equal(drawn(1000, (3, 100, 101, 640)).read(), whole.read())
    assert [len(whole.of(kind)) for kind in range(len(KINDS))] == [20, 20, 20, 0, 0]
    assert whole.seen.tolist() == [250] * 4 + [0]
    assert (whole.of(IMAGE) % 4 == IMAGE).all()
    assert not torch.equal(drawn(1000, seed=1).read(), whole.read())
    assert torch.equal(drawn(70).of(TEXT)[:, 0], torch.arange(0.0, 70, 4)), "few rows all stay, in order"


def test_halves_of_a_sample_merged_equal_the_whole() -> None:
    x, kinds = torch.arange(1000.0)[:, None], torch.arange(1000) % 4
    first = Reservoir(1, 20)
    first.add(x[:300], kinds[:300])
    second = Reservoir(1, 20, after=first.seen)
    second.add(x[300:], kinds[300:])
    first.merge(second)
    assert torch.equal(first.read(), drawn(1000).read())
    assert torch.equal(first.seen, drawn(1000).seen)
    with pytest.raises(ValueError, match="do not follow"):
        first.merge(drawn(10))
    with pytest.raises(TypeError, match="merge"):
        first.merge(Gram(1))


def test_every_row_is_as_likely_to_stay() -> None:
    """400 rows of a kind, 20 stay, 400 seeds: each row 20 times but for chance (chi-squared, 399 degrees)."""
    counts = torch.zeros(400)
    for seed in range(400):
        sample = Reservoir(1, 20, seed)
        sample.add(torch.arange(400.0)[:, None], torch.zeros(400, dtype=torch.int64))
        counts[sample.read()[:, 0].long()] += 1
    expected = 20.0
    assert 280 < ((counts - expected) ** 2 / expected).sum() < 520
    assert abs(counts[:200].sum() / counts.sum() - 0.5) < 0.02, "neither early nor late ones are preferred"


def test_the_mixer_is_splitmix64() -> None:
    """Against the published finalizer in Python's own integers."""
    top = (1 << 64) - 1

    def slow(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & top
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & top
        return z ^ (z >> 31)

    given = [0, 1, -1, 7, 2**62, -(2**63), 123456789012345]
    assert [value & top for value in mixed(torch.tensor(given)).tolist()] == [slow(value & top) for value in given]


def test_a_gram_hands_its_rows_to_the_sample_and_merges_it() -> None:
    x, kinds = torch.randn(50, 6), torch.randint(0, 2, (50,))
    first = Gram(6, sample=Reservoir(6, 8))
    first.add(x[:20], kinds[:20])
    second = Gram(6, sample=Reservoir(6, 8, after=first.seen))
    second.add(x[20:], kinds[20:])
    first.merge(second)
    whole = Reservoir(6, 8)
    whole.add(x, kinds)
    assert torch.equal(first.sample.read(), whole.read())
