"""The split depends on groups and seed alone, and never divides a group."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.core.errors import BadInput, Refused
from trimtab.data import split


@given(st.lists(st.integers(0, 12), min_size=30, max_size=80), st.integers(0, 5))
def test_no_group_on_both_sides_whatever_the_order(numbers: list[int], seed: int) -> None:
    groups = [f"g{one}" for one in numbers]
    groups += [f"h{i}" for i in range(40)]  # whatever was drawn, neither side is too small
    parts = split.divide(groups, seed)
    by_group = dict(zip(groups, parts, strict=True))
    assert [by_group[one] for one in groups] == parts
    order = random.Random(seed).sample(range(len(groups)), len(groups))
    again = split.divide([groups[i] for i in order], seed)
    assert again == [parts[i] for i in order]


def test_share_and_seed() -> None:
    groups = [f"patient {i // 3}" for i in range(300)]
    one, other = split.divide(groups, 0), split.divide(groups, 1)
    assert abs(one.count("test") - 200) <= 3
    assert one != other


@pytest.mark.parametrize(
    ("groups", "said"),
    [(["a"] * 50, "50 rows in 1 groups"), (["a", "b"] * 3, "6 rows in 2 groups"), (["a"] * 40 + ["b"], "leave")],
)
def test_too_little_is_refused_with_numbers(groups: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        split.divide(groups, 0)


def test_given_splits() -> None:
    where = [f"row {i}" for i in range(4)]
    assert split.given(["Train", "test ", "val", "calibration"], list("abcd"), where) == [
        "train", "test", "validation", "train",
    ]  # fmt: skip
    with pytest.raises(Refused, match=r"1 groups are in both train and test \(first: row 0 and row 2\)"):
        split.given(["train", "train", "test", "test"], list("abac"), where)
    with pytest.raises(BadInput, match=r"row 1: split: got 'tset' \(nearest: 'test'\)"):
        split.given(["train", "tset", "test", "test"], list("abcd"), where)


def test_a_smaller_choice_is_part_of_a_larger() -> None:
    items = [f"s{i}" for i in range(1000)]
    small, large = split.choose(items, items, 100, 3), split.choose(items, items, 400, 3)
    assert set(small) < set(large)
    assert (len(small), len(large)) == (100, 400)
    assert large == sorted(large, key=items.index)
    assert split.choose(items, items, 100, 4) != small
    assert split.choose(items, items, None, 0) == split.choose(items, items, 2000, 0) == items
