"""What is special to rotated inputs: columns that are larger than the rest no longer set the grid, and every rotation
has statistics of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trimtab.core import hessian
from trimtab.core.blocks import Blocks
from trimtab.core.fit import Fit, Site
from trimtab.core.joins import Chain
from trimtab.core.stats import TEXT, Gram
from trimtab.core.weight import Dense, Quantized, bits
from trimtab.quantize import GPTQ, RTN


def gram_of(x: Tensor) -> Gram:
    gram = Gram(x.shape[1])
    gram.add(x, torch.full((len(x),), TEXT))
    return gram


def lost(w: Tensor, x: Tensor, fit: Fit) -> float:
    made = fit(Dense(w), Site("layer", w.clone, gram_of(x)))
    return float(((made.dense() - w).double() @ x.double().T).square().sum())


def columns(large: float, seed: int) -> tuple[Tensor, Tensor]:
    """A matrix of which every 32nd column is ``large`` times the rest, and inputs that are correlated."""
    g = torch.Generator().manual_seed(seed)
    w, mix = torch.randn(48, 128, generator=g), torch.randn(128, 128, generator=g)
    w[:, ::32] *= large
    return w, torch.randn(400, 128, generator=g) @ mix / 128**0.5


@pytest.mark.parametrize("kind", [RTN, GPTQ])
def test_large_columns_cost_less_behind_a_rotation(kind: type) -> None:
    """One grid for a row: the large columns set its step for all, and behind the rotation they are spread over 32."""
    for seed in range(5):
        w, x = columns(16.0, seed)
        plain, turned = (lost(w, x, kind(4, -1, rotate=rotate)) for rotate in (0, 32))
        assert turned < 0.5 * plain


def test_where_all_are_alike_it_gains_nothing() -> None:
    ratios = []
    for seed in range(5):
        w, x = columns(1.0, seed)
        ratios.append(lost(w, x, RTN(4, -1, rotate=32)) / lost(w, x, RTN(4, -1)))
    assert 0.9 < sum(ratios) / 5 < 1.1


@pytest.mark.parametrize("kind", [RTN, GPTQ])
def test_it_stands_for_the_matrix_that_came_and_takes_no_bytes(kind: type) -> None:
    """At 8 bits nearly all of it is there; the codes are those of the rotated matrix."""
    w, x = columns(4.0, 0)
    site = Site("layer", w.clone, gram_of(x))
    made, plain = kind(8, 32, rotate=16)(Dense(w), site), kind(8, 32)(Dense(w), site)
    assert isinstance(made, Chain)
    codes, turn = made
    assert isinstance(codes, Quantized)
    assert isinstance(turn, Blocks)
    assert bits(made) == bits(plain)
    assert (made.dense() - w).norm() < 0.01 * w.norm()
    assert (codes.dense() - w @ turn.dense()).norm() < 0.01 * w.norm()
    torch.testing.assert_close(made(x), x @ made.dense().T, rtol=1e-4, atol=1e-3)


def test_linears_that_share_an_input_share_its_root_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """One Cholesky for a stage; another rotation, damping or group has a root of its own."""
    calls, inverse_root = [], hessian.inverse_root
    monkeypatch.setattr(hessian, "inverse_root", lambda h, damp: calls.append(damp) or inverse_root(h, damp))
    _, x = columns(4.0, 0)
    shared = gram_of(x)
    knobs = ({}, {"rotate": 16}, {"rotate": 32}, {"damp_percent": 0.1}, {"group_size": 32})
    for seed in range(3):
        w = torch.randn(8 + 8 * seed, 128, generator=torch.Generator().manual_seed(seed))
        for chosen in knobs:
            GPTQ(**chosen)(Dense(w), Site("layer", w.clone, shared))
    assert len(calls) == len(knobs)


def test_a_table_of_which_no_input_is_seen_is_rotated_too() -> None:
    assert GPTQ(3, 32, rotate=16).without_data() == RTN(3, 32, rotate=16)
