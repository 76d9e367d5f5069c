"""DivPrune: its bound on the least distance, planted clusters, and a slow reference."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from sights import batch, images_only, sample
from trimtab.core.stats import IMAGE
from trimtab.tokens import DivPrune
from trimtab.tokens.divprune import likeness, traverse


def unit(x: torch.Tensor) -> torch.Tensor:
    return x.double() / x.double().norm(dim=1, keepdim=True)


def slow(x: torch.Tensor, k: int) -> list[int]:
    """Farthest-first traversal in float64, as the row of the catalogue says it, one pair at a time."""
    u = [row.tolist() for row in unit(x)]
    n = len(u)
    d = [[1.0 - sum(a * b for a, b in zip(u[i], u[j], strict=True)) for j in range(n)] for i in range(n)]
    chosen = [max(range(n), key=lambda i: min((d[i][j] for j in range(n) if j != i), default=0.0))]
    while len(chosen) < k:
        rest = [j for j in range(n) if j not in chosen]
        chosen.append(max(rest, key=lambda j: min(d[i][j] for i in chosen)))
    return sorted(chosen)


def kept(x: torch.Tensor, k: int) -> list[int]:
    """The image tokens that DivPrune keeps of one sample."""
    sight = images_only(x)
    chosen = DivPrune(k / len(x)).policy().chosen(sight)[0]
    return chosen[sight.stream.kinds[0] == IMAGE].nonzero().flatten().tolist()


def least(apart: list[list[float]], which: tuple[int, ...] | list[int]) -> float:
    return min(apart[i][j] for i, j in combinations(which, 2))


@pytest.mark.parametrize("seed", range(30))
def test_it_chooses_what_the_slow_reference_chooses(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(4, 40, (1,), generator=generator))
    k = int(torch.randint(1, n + 1, (1,), generator=generator))
    x = torch.randn(n, 6, generator=generator) + 0.3
    assert kept(x, k) == slow(x, k)


@pytest.mark.parametrize("seed", range(60))
def test_least_distance_is_at_least_half_of_the_optimum(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(6, 15, (1,), generator=generator))
    k = int(torch.randint(2, 7, (1,), generator=generator))
    clumps = torch.randn(4, 3, generator=generator)
    x = clumps[torch.randint(4, (n,), generator=generator)] + 0.6 * torch.randn(n, 3, generator=generator)
    apart = torch.cdist(unit(x), unit(x)).tolist()
    best = max(least(apart, which) for which in combinations(range(n), k))
    assert least(apart, kept(x, k)) >= 0.5 * best


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_every_planted_cluster_is_represented(seed: int, extra: int) -> None:
    """Clusters of very unequal size, k the number of clusters or more; lengths of tokens do not matter."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [40, 12, 5, 1, 1, 1]
    label = torch.repeat_interleave(torch.arange(6), torch.tensor(sizes))
    label = label[torch.randperm(len(label), generator=generator)]
    length = 0.5 + 3 * torch.rand(len(label), 1, generator=generator)
    x = length * (torch.eye(6, 10)[label] + 0.02 * torch.randn(len(label), 10, generator=generator))
    assert set(label[kept(x, 6 + extra)].tolist()) == set(range(6))


def test_exact_duplicates_are_taken_last_and_never_twice() -> None:
    x = torch.eye(4)[torch.tensor([0, 0, 0, 1, 2, 3, 3])]
    assert {int(x[i].argmax()) for i in kept(x, 4)} == {0, 1, 2, 3}
    assert len(kept(x, 6)) == 6


def test_a_short_row_of_duplicates_fills_its_budget_from_its_own_tokens() -> None:
    """Rounding puts duplicates at a likeness just above 1; padding is taken neither then nor as the first."""
    like = torch.full((2, 6, 6), -torch.inf)
    like[0, :4, :4] = 1 + 1e-7
    like[1] = torch.eye(6)
    present = torch.arange(6) < torch.tensor([[4], [6]])
    got = traverse(like, present, torch.tensor([3, 5]))
    assert got.tolist() == [[True] * 3 + [False] * 3, [True] * 5 + [False]]


def test_ties_go_to_the_earlier_token() -> None:
    like = torch.zeros(1, 5, 5)
    like[0, 2] = like[0, :, 2] = -0.5  # the start
    all_there = torch.ones(1, 5, dtype=torch.bool)
    got = traverse(like, all_there, torch.tensor([3]))
    assert got[0].tolist() == [True, True, True, False, False]
    assert kept(torch.eye(5), 2) == [0, 1]


def test_the_start_is_the_most_isolated_token() -> None:
    angle = torch.tensor([0.0, 0.1, 0.2, 1.5, 0.35])
    assert kept(torch.stack([angle.cos(), angle.sin()], 1), 1) == [3]


def test_likeness_is_the_cosine() -> None:
    u, found = unit(torch.randn(7, 5) * 4), torch.empty(7, 7)
    likeness(u.float(), found)
    assert torch.allclose(found.double(), u @ u.T, atol=1e-6)


def test_several_images_of_a_sample_are_one_set() -> None:
    """Two identical images: nothing of the second is worth keeping before all of the first is represented."""
    sight = sample([4, 4])
    image = sight.stream.kinds[0] == IMAGE
    x = sight.stream.x.clone()
    x[0, image] = torch.eye(4, x.shape[2]).repeat(2, 1)
    sight = batch([sight])
    sight.stream.x.copy_(x)
    chosen = DivPrune(0.5).policy().chosen(sight)[0][image].nonzero().flatten()
    assert sorted((chosen % 4).tolist()) == [0, 1, 2, 3]


def test_the_layer_it_acts_on_is_the_first() -> None:
    assert DivPrune(0.5).policy().at.layer == 0
