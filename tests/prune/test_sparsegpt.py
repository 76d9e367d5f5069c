"""What is special to SparseGPT: a case by hand, Wanda beaten, blocks, exact counts in every row, dead inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from calibrated import gram_of
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.fit import Site
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Weight, bits
from trimtab.prune import Magnitude, SparseGPT, Wanda
from trimtab.prune import sparsegpt as module


def inputs(tokens: int, width: int) -> Tensor:
    mixed = torch.randn(tokens, width) @ (torch.randn(width, width) / width**0.5 + 0.3 * torch.eye(width))
    return mixed * torch.logspace(-0.5, 0.5, width)[torch.randperm(width)]


def fitted(w: Tensor, x: Tensor, **knobs: object) -> Masked:
    found = SparseGPT(**knobs)(Dense(w), Site("layer", lambda: w, gram_of(x)))  # type: ignore[arg-type]
    assert isinstance(found, Masked)
    return found


def lost(w: Tensor, v: Weight, x: Tensor) -> float:
    return ((w.double() - v.dense().double()) @ x.double().T).square().sum().item()


def test_two_columns_by_hand() -> None:
    """Inputs that always agree: when the smaller of two weights goes, the other takes it up whole."""
    x = torch.eye(8).repeat(4, 1)
    x[:, 1] = x[:, 0]
    w = torch.tensor([[0.4, 1.0, 0.1, 3.0, 0.1, 3.0, 0.1, 3.0]])
    ours = fitted(w, x, keep=0.5, damp_percent=1e-4)
    torch.testing.assert_close(ours.dense(), torch.tensor([[0, 1.4, 0, 3, 0, 3, 0, 3]]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("knobs", [{"keep": 0.5}, {"keep": 0.3}, {"keep": 0.5, "pattern": "2:4"}])
def test_it_beats_wanda_at_equal_bytes(knobs: dict) -> None:
    """On inputs whose spectrum falls off by a power, as it does in trained models; on weakly correlated ones, with 70 %
    of the weights gone, there is nothing in it (the ratio is about 1)."""
    seen, held_out = [], []
    for seed in range(20):
        torch.manual_seed(seed)
        w, turn = torch.randn(24, 64) * 0.1, torch.linalg.qr(torch.randn(64, 64))[0]
        x, held = (torch.randn(1024, 64) * torch.arange(1, 65) ** -0.5 @ turn).chunk(2)
        site = Site("layer", lambda w=w: w, gram_of(x))
        ours, theirs = (kind(**knobs)(Dense(w), site) for kind in (SparseGPT, Wanda))
        assert bits(ours) == bits(theirs)
        seen.append(lost(w, ours, x) / lost(w, theirs, x))
        held_out.append(lost(w, ours, held) / lost(w, theirs, held))
    for ratios in (seen, held_out):
        assert np.mean(ratios) < 0.85
        assert sum(ratio < 1 for ratio in ratios) >= 18, ratios


def slow(w: np.ndarray, x: np.ndarray, keep: float, block: int) -> np.ndarray:
    """Column by column in float64, a mask for each block chosen as it is reached."""
    w, n = w.copy(), w.shape[1]
    h = x.T @ x
    h = h + 0.01 * np.mean(np.diag(h)) * np.eye(n)
    left, whole, mask = [np.linalg.inv(h[i:, i:])[0] for i in range(n)], int(keep * n + 0.5), np.ones(w.shape, bool)
    for i in range(n):
        if i % block == 0:
            end = min(i + block, n)
            count = whole * end // n - whole * i // n
            costs = w[:, i:end] ** 2 / [one[0] for one in left[i:end]]
            mask[:, i:end] = costs.argsort(1).argsort(1) >= end - i - count
        for r in np.flatnonzero(~mask[:, i]):
            w[r, i:] -= w[r, i] / left[i][0] * left[i]
    return np.where(mask, w, 0)


@pytest.mark.parametrize("keep", [0.5, 0.3, 0.85])
@pytest.mark.parametrize("block", [24, 128])
def test_blocks_are_filled_as_the_slow_reference_fills_them(
    keep: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    w, x = torch.randn(6, 200), inputs(800, 200)
    ours = fitted(w, x, keep=keep)
    expected = torch.tensor(slow(w.double().numpy(), x.double().numpy(), keep, block))
    assert torch.equal(ours.kept(), expected != 0)
    torch.testing.assert_close(ours.dense().double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.01, 0.997])
def test_every_row_keeps_what_was_said_over_all_blocks(keep: float) -> None:
    ours = fitted(torch.randn(5, 328), inputs(700, 328), keep=keep)
    assert (ours.kept().sum(1) == max(1, int(keep * 328 + 0.5))).all()


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "1:4", "3:16", "5:24"])
def test_for_n_of_m_the_size_of_a_block_changes_nothing(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n, m = map(int, pattern.split(":"))
    w, x, found = torch.randn(7, 240), inputs(700, 240), []
    for block in (1, 40, 128):
        monkeypatch.setattr(module, "BLOCK", block)
        found.append(fitted(w, x, keep=n / m, pattern=pattern))
        assert (found[-1].kept().unflatten(1, (-1, m)).sum(2) == n).all()
    for other in found[1:]:
        assert torch.equal(other.kept(), found[0].kept())
        torch.testing.assert_close(other.dense(), found[0].dense(), rtol=0, atol=1e-4)


def test_rows_are_independent_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = torch.randn(21, 64), inputs(300, 64)
    whole = fitted(w, x)
    monkeypatch.setattr(module, "CHUNK", 5)
    parts = fitted(w, x)
    assert torch.equal(parts.mask, whole.mask)
    torch.testing.assert_close(parts.values, whole.values)
    assert torch.equal(fitted(w[7:8], x).kept()[0], whole.kept()[7])


def test_all_that_stays_is_as_it_was() -> None:
    w, x = torch.randn(6, 136), inputs(400, 136)
    assert torch.equal(fitted(w, x, keep=1.0).dense(), w)


def test_weights_of_dead_inputs_go_first_and_touch_no_other() -> None:
    w, x = torch.randn(8, 64), inputs(300, 64)
    x[:, 10:20] = 0
    w[:, 10:20] *= 100
    assert not fitted(w, x, keep=0.5).kept()[:, 10:20].any()
    most = fitted(w, x, keep=0.95)
    kept = most.kept()[:, 10:20]
    assert (kept.sum(1) == 10 - (64 - int(0.95 * 64 + 0.5))).all()
    assert torch.equal(most.dense()[:, 10:20], w[:, 10:20] * kept)
    live = [i for i in range(64) if not 10 <= i < 20]
    torch.testing.assert_close(most.dense()[:, live], w[:, live])


def test_no_statistics_and_bad_ones_are_refused() -> None:
    w, x = torch.randn(4, 16), inputs(100, 16)
    with pytest.raises(BadInput, match="layer: sparsegpt needs calibration data"):
        SparseGPT()(Dense(w), Site("layer", lambda: w))
    with pytest.raises(ValueError, match="damp_percent: got 2"):
        SparseGPT(damp_percent=2.0).check(16)
    gram = gram_of(x)
    gram.total[2, 2] = torch.inf
    with pytest.raises(Anomaly, match=r"model\.up: .*calibration data"):
        SparseGPT()(Dense(w), Site("model.up", lambda: w, gram))
    assert SparseGPT(0.3).without_data() == Magnitude(0.3)


def test_it_is_usable_alone_in_the_checkpoints_dtype() -> None:
    w, x = torch.randn(32, 128).bfloat16(), inputs(512, 128).bfloat16()
    ours = fitted(w, x)
    assert (ours.dtype, ours.shape) == (torch.bfloat16, (32, 128))
    theirs = Magnitude()(Dense(w), Site("", lambda: w))
    assert lost(w, ours, x) < lost(w, theirs, x)
