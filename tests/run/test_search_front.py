"""Dominance, Pareto sets and hypervolume against slow ones that count the cells of a grid."""

from __future__ import annotations

import math
import random
from itertools import pairwise, product

import pytest

from trimtab.run.search.front import dominates, hypervolume, pareto, shares


def counted(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """The volume cell by cell: every coordinate of any point cuts the space, and a cell counts where a point is at or
    below its lower corner."""
    axes = [sorted({min(one[i], r) for one in points} | {r}) for i, r in enumerate(reference)]
    total = 0.0
    for cell in product(*(list(pairwise(axis)) for axis in axes)):
        if any(all(x <= low for x, (low, _) in zip(one, cell, strict=True)) for one in points):
            total += math.prod(high - low for low, high in cell)
    return total


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_hypervolume_is_that_of_the_cells(size: int) -> None:
    rng = random.Random(size)
    for count in (0, 1, 2, 5, 9):
        for _ in range(8):
            points = [tuple(rng.choice((rng.random(), 0.25, 0.5, 1.5)) for _ in range(size)) for _ in range(count)]
            reference = tuple(1.0 for _ in range(size))
            assert hypervolume(points, reference) == pytest.approx(counted(points, reference), abs=1e-12)


def test_a_hand_worked_case() -> None:
    assert hypervolume([(1, 3), (2, 1)], (4, 4)) == 3 + 6 - 2  # boxes of 3 x 1 and 2 x 3, of which 2 x 1 is in both
    assert hypervolume([(4, 0)], (4, 4)) == 0
    assert shares([(1, 3), (2, 1)], (4, 4)) == [1, 4]


def test_the_front_is_what_nothing_dominates() -> None:
    rng = random.Random(3)
    points = [tuple(rng.randrange(5) for _ in range(3)) for _ in range(60)]
    front = [points[i] for i in pareto(points)]
    assert len(set(front)) == len(front)
    for point in points:
        beaten = any(all(x <= y for x, y in zip(o, point, strict=True)) and o != point for o in points)
        assert beaten != (point in front)
    assert [points.index(one) for one in front] == pareto(points), "the first of equal points, in order"


def test_equal_points_do_not_dominate_each_other() -> None:
    assert not dominates((1, 2), (1, 2))
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 3), (2, 2))
    assert pareto([(1, 2), (1, 2), (2, 1)]) == [0, 2]
    with pytest.raises(ValueError, match="zip"):
        dominates((1,), (1, 2))
