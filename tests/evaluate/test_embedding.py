"""Sentence embeddings: pooling, cosines and ranks against slow references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trimtab.evaluate.embedding import cosines, mean_pooled, order_kept


def test_pooling_is_the_mean_of_what_the_mask_shows() -> None:
    states = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    found = mean_pooled(states, mask)
    for row, shown, one in zip(states.numpy(), mask.numpy(), found.numpy(), strict=True):
        wanted = np.mean([state for state, here in zip(row, shown, strict=True) if here], axis=0)
        np.testing.assert_allclose(one, wanted / math.sqrt((wanted**2).sum()), rtol=1e-5)


def slow_spearman(a: list[float], b: list[float]) -> float:
    """Ranks by counting, then Pearson's formula."""

    def ranks(x: list[float]) -> list[float]:
        return [sum(y < one for y in x) + (sum(y == one for y in x) + 1) / 2 for one in x]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


@pytest.mark.parametrize("coarse", [False, True])
def test_order_is_spearmans_correlation_over_the_others(coarse: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    before = torch.randn(9, 6, generator=generator)
    after = before + 0.5 * torch.randn(9, 6, generator=generator)
    if coarse:  # of length 2, so that many similarities are equal to the last bit
        before, after = before[:, :4].sign(), after[:, :4].sign()
    found = order_kept(before, after)
    for i in range(9):
        told = [[float(np.dot(x[i], x[j]) / np.linalg.norm(x[i]) / np.linalg.norm(x[j])) for j in range(9) if j != i]
                for x in (before.double().numpy(), after.double().numpy())]  # fmt: skip
        assert float(found[i]) == pytest.approx(slow_spearman(*told), abs=1e-9)


def test_lengths_and_turns_change_no_order() -> None:
    before = torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3)))[0]
    torch.testing.assert_close(order_kept(before, 3 * before @ turn), torch.ones(20, dtype=torch.float64))
    assert float(cosines(before, 3 * before).min()) == pytest.approx(1)
    assert float(cosines(before, -before).max()) == pytest.approx(-1)
    with pytest.raises(ValueError, match="got 2 sentences"):
        order_kept(before[:2], before[:2])
