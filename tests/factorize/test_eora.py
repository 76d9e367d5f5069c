"""What is special to EoRA: the identity with what was left out, the optimum, full rank, either way to it, no inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.factors import LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Sum, leaves
from trimtab.core.sparse import Masked
from trimtab.core.stats import Gram
from trimtab.core.weight import Dense, Quantized, Weight, bits
from trimtab.factorize import SVD, EoRA
from trimtab.factorize import residue as module
from trimtab.factorize.residue import leading
from trimtab.prune import Magnitude
from trimtab.quantize import RTN

SHAPES = [(16, 48), (32, 32), (48, 16)]


def gram_of(x: Tensor) -> Gram:
    gram = Gram(x.shape[1])
    gram.add(x, torch.zeros(len(x), dtype=torch.int64))
    return gram


def layer(out: int, width: int, seed: int = 0, tokens: int = 400) -> tuple[Tensor, Tensor]:
    """A matrix, and correlated inputs of unequal size."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=g) / width**0.5 + 0.5 * torch.eye(width)
    size = torch.logspace(-0.5, 0.5, width)[torch.randperm(width, generator=g)]
    return torch.randn(out, width, generator=g), (torch.randn(tokens, width, generator=g) @ mix) * size


def coarse(w: Tensor) -> Weight:
    return RTN(3, 16)(Dense(w), Site("", lambda: w))


def fitted(fit: EoRA | SVD, given: Weight, w: Tensor, x: Tensor) -> Sum:
    found = fit(given, Site("layer", lambda: w, gram_of(x)))
    assert isinstance(found, Sum)
    return found


def lost(w: Tensor, v: Weight, x: Tensor) -> float:
    """Through the leaves in float64: no rounding of the sum."""
    dense = sum(one.dense().double() for one in leaves(v) if not isinstance(one, LowRank))
    low = sum(one.left.double() @ one.right.double() for one in leaves(v) if isinstance(one, LowRank))
    return ((w.double() - dense - low) @ x.double().T).square().sum().item()


@pytest.mark.parametrize("r", [1, 5, 15])
@pytest.mark.parametrize(("out", "width"), SHAPES)
@pytest.mark.parametrize("prune", [False, True])
def test_what_is_left_is_the_sum_of_the_squares_left_out(out: int, width: int, r: int, prune: bool) -> None:
    w, x = layer(out, width)
    given = Magnitude(0.5, "2:4")(Dense(w), Site("", lambda: w)) if prune else coarse(w)
    gap = (w.double() - given.dense().double()).numpy()
    values, q = np.linalg.eigh(x.double().numpy().T @ x.double().numpy())
    singular = np.linalg.svd(gap @ q * np.sqrt(values), compute_uv=False)
    found = lost(w, fitted(EoRA(r), given, w, x), x)
    noise = 1e-7 * (singular**2).sum()  # H is summed in float32
    assert found == pytest.approx((singular[r:] ** 2).sum(), rel=1e-4, abs=noise)


@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_it_is_never_worse_than_a_plain_svd_at_any_rank(out: int, width: int) -> None:
    w, x = layer(out, width, 1)
    given, before = coarse(w), lost(w, coarse(w), x)
    for r in range(1, min(out, width)):
        ours, theirs = (lost(w, fitted(kind(r), given, w, x), x) for kind in (EoRA, SVD))
        assert ours < theirs
        assert ours < before
        before = ours


@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_a_thousand_steps_of_descent_come_within_a_percent_and_not_below(out: int, width: int) -> None:
    w, x = layer(out, width, 2)
    given, r = coarse(w), 4
    gap, h = w.double() - given.dense().double(), (x.double().T @ x.double()) / len(x)
    a, b = (0.1 * torch.randn(r, width)).double().requires_grad_(), torch.zeros(out, r).double().requires_grad_()
    optimizer = torch.optim.Adam([a, b], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    for _ in range(1000):
        optimizer.zero_grad()
        d = gap - b @ a
        loss = ((d @ h) * d).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
    ours = lost(w, fitted(EoRA(r), given, w, x), x) / len(x)
    assert ours <= loss.item() * (1 + 1e-6)
    assert ours == pytest.approx(loss.item(), rel=0.01)


@pytest.mark.parametrize("kind", [EoRA, SVD])
@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_full_rank_restores_the_matrix(out: int, width: int, kind: type[EoRA] | type[SVD]) -> None:
    w, x = layer(out, width, 3)
    x[:, 2:4] = 0  # inputs that were never seen
    found = fitted(kind(min(out, width)), coarse(w), w, x)
    torch.testing.assert_close(found.dense(), w, rtol=0, atol=2e-5)


@pytest.mark.parametrize("r", [1, 4])
@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_the_control_is_the_librarys_svd(out: int, width: int, r: int) -> None:
    w, x = layer(out, width, 4)
    given = coarse(w)
    _, low = leaves(fitted(SVD(r), given, w, x))
    assert isinstance(low, LowRank)
    u, s, v = torch.linalg.svd((w - given.dense()).double(), full_matrices=False)
    torch.testing.assert_close(low.dense().double(), (u * s)[:, :r] @ v[:r], rtol=0, atol=1e-5)
    for side in (low.left.double().T @ low.left.double(), low.right.double() @ low.right.double().T):
        torch.testing.assert_close(side, torch.diag(s[:r]), rtol=0, atol=1e-4)


def test_factors_share_the_singular_values_and_have_one_sign() -> None:
    """B = U S^1/2, so that B^T B = S, whichever way it is come by; H is taken over its mean diagonal."""
    for out, width in SHAPES:
        w, x = layer(out, width, 5)
        given = coarse(w)
        h = gram_of(x).read().double()
        h = h / h.diagonal().mean()
        gap = w.double() - given.dense().double()
        _, low = leaves(fitted(EoRA(3), given, w, x))
        assert isinstance(low, LowRank)
        squares = torch.linalg.eigvalsh(gap @ h @ gap.T).flip(0)[:3]
        got = low.left.double().T @ low.left.double()
        torch.testing.assert_close(got, torch.diag(squares.sqrt()), rtol=0, atol=1e-4 * squares[0].sqrt().item())
    values, vectors = leading(h, len(h))
    assert (values.diff() <= 0).all()
    assert (vectors.gather(0, vectors.abs().argmax(0, keepdim=True)) > 0).all()
    torch.testing.assert_close(vectors * values @ vectors.T, h)


@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_chunks_and_single_precision_change_little(out: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = layer(out, width, 6)
    given = coarse(w)
    whole = fitted(EoRA(4), given, w, x)
    monkeypatch.setattr(module, "CHUNK", 7)
    torch.testing.assert_close(fitted(EoRA(4), given, w, x).dense(), whole.dense(), rtol=0, atol=1e-5)
    monkeypatch.setattr(module, "EXACT", 8)
    single = fitted(EoRA(4), given, w, x)
    assert lost(w, single, x) == pytest.approx(lost(w, whole, x), rel=1e-3)


@pytest.mark.parametrize("kind", [EoRA, SVD])
@pytest.mark.parametrize(("out", "width"), SHAPES)
def test_nothing_lost_and_nothing_seen_stay_finite(out: int, width: int, kind: type[EoRA] | type[SVD]) -> None:
    w, x = layer(out, width, 7)
    found = fitted(kind(3), Dense(w), w, x)
    assert torch.equal(found.dense(), w)
    unseen = fitted(kind(3), coarse(w), w, torch.zeros(10, width))
    assert unseen.dense().isfinite().all()
    assert (unseen.dense() - w).norm() <= (coarse(w).dense() - w).norm()
    few = fitted(kind(3), coarse(w), w, x[:5])  # H of rank 5
    assert few.dense().isfinite().all()
    assert lost(w, few, x[:5]) <= lost(w, coarse(w), x[:5])


def test_it_goes_beside_what_is_there_in_the_checkpoints_dtype() -> None:
    w, x = layer(64, 128, 8)
    given = RTN(3, 32)(Dense(w.bfloat16()), Site("", lambda: w))
    found = fitted(EoRA(), given, w.bfloat16(), x)
    first, low = leaves(found)
    assert isinstance(first, Quantized)
    assert first is given
    assert (found.dtype, low.dtype, bits(found)) == (torch.bfloat16, torch.bfloat16, bits(given) + 16 * 16 * (64 + 128))
    assert lost(w.bfloat16(), found, x) < 0.8 * lost(w.bfloat16(), given, x)
    again = fitted(EoRA(4), found, w.bfloat16(), x)
    assert [type(one) for one in leaves(again)] == [Quantized, LowRank, LowRank]
    assert lost(w.bfloat16(), again, x) < lost(w.bfloat16(), found, x)
    pruned = Magnitude()(Dense(w), Site("", lambda: w))
    assert isinstance(next(iter(leaves(fitted(EoRA(), pruned, w, x)))), Masked)


def test_no_statistics_and_bad_ones_are_refused() -> None:
    w, x = layer(16, 48, 9)
    with pytest.raises(BadInput, match="layer: eora needs calibration data"):
        EoRA(2)(coarse(w), Site("layer", lambda: w))
    gram = gram_of(x)
    gram.total[0, 0] = torch.nan
    with pytest.raises(Anomaly, match=r"model\.up: .*calibration data"):
        EoRA(2)(coarse(w), Site("model.up", lambda: w, gram))
    assert EoRA(7).without_data() == SVD(7)
    assert SVD(7).without_data() == SVD(7)
    with pytest.raises(ValueError, match=r"r: got 17 for rows of 16; accepted: 1 to 16 \(nearest: 16\)"):
        EoRA(17).check(16)
