"""Which entries stay: against a stable sort, ties and all."""

from __future__ import annotations

import pytest
import torch

from trimtab.prune.pattern import best, kept


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (4, 8), (3, 7), (8, 16), (5, 12)])
def test_the_best_stay_and_the_earlier_of_equals(n: int, m: int, seed: int) -> None:
    score = torch.randint(0, 6, (50, m), generator=torch.Generator().manual_seed(seed)).float()
    found = best(score, n)
    for row, mask in zip(score.tolist(), found.tolist(), strict=True):
        order = sorted(range(m), key=lambda i: -row[i])
        assert [i for i in range(m) if mask[i]] == sorted(order[:n])


def test_groups_are_neighbours_in_a_row() -> None:
    score = torch.randn(9, 24)
    mask = kept(score, 0.5, "2:4")
    assert torch.equal(mask.unflatten(1, (-1, 4)), best(score.unflatten(1, (-1, 4)), 2))
    assert mask.unflatten(1, (-1, 4)).sum(-1).eq(2).all()
