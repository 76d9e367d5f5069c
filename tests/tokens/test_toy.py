"""The catalogue's proofs on a small trained LLaVA: what its answers lose when image tokens go, through our loop."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
import toy

from trimtab import anatomy
from trimtab.core.keep import Keep, Place, Sight, share
from trimtab.tokens import DivPrune, FastV, RandomTokens
from trimtab.tokens.fastv import received

POINT = 0.01


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return toy.trained()


def questions(count: int, copies: tuple[int, int]) -> toy.Questions:
    """Held out: training drew from seed 0."""
    return toy.draw(count, copies, torch.Generator().manual_seed(5))


def by_chance(model: torch.nn.Module, asked: toy.Questions, keep: float) -> float:
    """RandomTokens before the first layer, over three seeds."""
    return sum(toy.right(model, asked, (RandomTokens(keep, seed=s).policy(),)) for s in range(3)) / 3


def test_fastv_keeps_sparse_evidence_where_random_choice_loses_it(model: torch.nn.Module) -> None:
    """Each object in one patch. Half of the tokens after layer 2: at most a point lost; half at random: far more."""
    asked = questions(1000, (1, 1))
    whole = toy.right(model, asked)
    fastv = FastV(0.5, layer=2).policy()
    reverse = replace(fastv, score=lambda sight: -fastv.score(sight))
    assert whole >= 0.99
    assert whole - toy.right(model, asked, (fastv,)) <= POINT
    assert whole - by_chance(model, asked, 0.5) >= 20 * POINT
    assert whole - toy.right(model, asked, (reverse,)) >= 20 * POINT, "the score must matter"


def test_fastv_that_keeps_all_changes_no_answer_bit(model: torch.nn.Module) -> None:
    body, batch = anatomy.of(model), questions(8, (1, 4)).batch
    with torch.no_grad():
        base = toy.prefill(body, batch).logits
        same = toy.prefill(body, batch, (FastV(1.0, layer=2).policy(),)).logits
    assert torch.equal(base, same)


@pytest.mark.parametrize("copies", [(1, 4), (2, 6)])
def test_divprune_beats_random_and_attention_when_tokens_repeat(
    model: torch.nn.Module, copies: tuple[int, int]
) -> None:
    """90 % pruned before the first layer: 5 of 49 tokens for 4 objects and a background, all of them repeated.

    Attention: what the asking token gives in the first layer, FastV's score, at the same place and budget.
    """
    asked = questions(600, copies)
    whole = toy.right(model, asked)
    diverse = toy.right(model, asked, (DivPrune(0.1).policy(),))
    attention = Keep(partial(first_attention, model), share(0.1), at=Place(layer=0))
    assert whole - diverse <= 6 * POINT
    assert diverse - by_chance(model, asked, 0.1) >= 20 * POINT
    assert diverse - toy.right(model, asked, (attention,)) >= 10 * POINT
    assert diverse - toy.right(model, asked, (FastV(0.1, layer=1).policy(),)) >= 10 * POINT


def first_attention(model: torch.nn.Module, sight: Sight) -> torch.Tensor:
    """The attention that the last token gives each token in the first decoder layer."""
    body, seen = anatomy.of(model), []
    body.blocks()[body.layers()[0]](sight.stream, None, lambda *shown: seen.append(shown))
    q, k, mask, scaling = seen[0]
    return received(replace(sight, q=q, k=k, mask=mask, scaling=scaling), "last")
