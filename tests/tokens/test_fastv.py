"""FastV: its score against explicit attention, and the count of operations in its paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sights import batch, sample
from trimtab import anatomy
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill
from trimtab.core.keep import Sight
from trimtab.tokens import FastV, flops
from trimtab.tokens.fastv import received


def slow(sight: Sight, queries: str) -> torch.Tensor:
    """Softmax by exponentials in float64, one row, head and query at a time."""
    q, k = sight.q.double(), sight.k.double()
    rows, heads, t, size = q.shape
    scaling = size**-0.5 if sight.scaling is None else sight.scaling
    score = torch.zeros(rows, t, dtype=torch.float64)
    for row in range(rows):
        places = sight.stream.valid[row].nonzero().flatten().tolist()
        asking = places[-1:] if queries == "last" else places
        for head in range(heads):
            key = k[row, head * k.shape[1] // heads]
            for i in asking:
                seen = [j for j in places if j <= i]
                power = [torch.exp(scaling * q[row, head, i] @ key[j]).item() for j in seen]
                for j, value in zip(seen, power, strict=True):
                    score[row, j] += value / sum(power) / heads / len(asking)
    return score


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("queries", ["last", "all"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scaling", [0.7, None])
def test_score_is_the_attention_received(side: str, queries: str, masked: bool, scaling: float | None) -> None:
    sight = batch([sample([5]), sample([2, 3]), sample([9])], side)
    sight = replace(sight, scaling=scaling, mask=sight.mask if masked else None)
    got = received(sight, queries)
    assert torch.allclose(got.double(), slow(sight, queries), atol=1e-6)
    assert torch.allclose(got.sum(1), torch.ones(3), atol=1e-5)


def test_the_mask_of_the_layer_is_obeyed() -> None:
    """A sliding window hides early tokens from the last query, so they score nothing and are dropped first."""
    sight = sample([8], text=1)
    t = sight.stream.x.shape[1]
    window = sight.mask & (torch.arange(t)[None, :] > torch.arange(t)[:, None] - 5)
    sight = replace(sight, mask=window)
    assert received(sight, "last")[0, : t - 5].eq(0).all()
    chosen = FastV(0.5).policy().chosen(sight)[0]
    assert chosen.tolist() == [True, False, False, False, False, True, True, True, True, True]


def test_the_most_attended_tokens_stay() -> None:
    sight = sample([10])
    first = int((sight.stream.kinds[0] == 1).nonzero()[0])
    key = torch.zeros_like(sight.k)
    key[:, :, first + 3], key[:, :, first + 7] = 5.0, 4.0
    sight = replace(sight, q=torch.ones_like(sight.q), k=key)
    chosen = FastV(0.2).policy().chosen(sight)[0]
    assert chosen[first : first + 10].nonzero().flatten().tolist() == [3, 7]


def test_last_and_all_queries_differ() -> None:
    sight = batch([sample([20])])
    assert not torch.allclose(received(sight, "last"), received(sight, "all"), atol=1e-3)


def test_without_attention_it_says_so() -> None:
    sight = sample([4])
    with pytest.raises(ValueError, match="fastv at layer 2: no attention"):
        FastV(0.5).policy().chosen(replace(sight, q=None, k=None))
    with pytest.raises(ValueError, match="layer: got 0; accepted: 1 or more"):
        FastV(0.5, layer=0).policy()
    assert FastV(0.5, layer=3).policy().at.layer == 3


# FastV's table for LLaVA-1.5: K, kept share, percent of the operations. Its rows at K = 0 do not follow its formula.
SEVEN = [(2, 0.10, 20), (2, 0.25, 33), (2, 0.50, 55), (3, 0.10, 23), (3, 0.25, 35), (3, 0.50, 57),
         (5, 0.10, 28), (5, 0.25, 40), (5, 0.50, 60)]  # fmt: skip
THIRTEEN = [(2, 0.10, 19), (2, 0.25, 32), (2, 0.50, 55), (3, 0.10, 21), (3, 0.25, 34), (3, 0.50, 56),
            (5, 0.10, 26), (5, 0.25, 38), (5, 0.50, 58)]  # fmt: skip
MODELS = {"7B": (32, 4096, 11008, 99.3, SEVEN), "13B": (40, 5120, 13824, 154.6, THIRTEEN)}
TEXT, IMAGE = 36, 576


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_operations_of_the_published_table(model: str) -> None:
    layers, width, hidden, giga, rows = MODELS[model]
    assert flops.per_layer(TEXT + IMAGE, width, hidden) / 1e9 == pytest.approx(giga, abs=0.1)
    for layer, keep, percent in rows:
        got = 100 * flops.ratio(TEXT, IMAGE, keep, layer, layers, width, hidden)
        assert got == pytest.approx(percent, abs=1.5), f"K={layer} keep={keep}"


def test_operations_of_one_layer_term_by_term() -> None:
    n, d, m = 7, 3, 5
    assert flops.per_layer(n, d, m) == 4 * n * d * d + 2 * n * n * d + 2 * n * d * m
    whole = flops.prefill(2, 5, 1.0, 1, 4, d, m)
    assert whole == 4 * flops.per_layer(7, d, m)
    assert flops.prefill(2, 5, 0.4, 1, 4, d, m) == flops.per_layer(7, d, m) + 3 * flops.per_layer(4, d, m)
    assert flops.ratio(2, 5, 1.0, 1, 4, d, m) == 1.0
    with pytest.raises(ValueError, match="keep: got 0"):
        flops.ratio(2, 5, 0.0, 1, 4, d, m)
    with pytest.raises(ValueError, match="layer: got 5"):
        flops.ratio(2, 5, 0.5, 5, 4, d, m)


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("queries", ["last", "all"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_in_a_model_the_score_is_the_librarys_own_attention(layer: int, queries: str, side: tiny.Padding) -> None:
    """transformers' eager attention weights, which share no code with ours, for the layer before."""
    model, inputs = tiny.make("llava", side)
    valid = inputs["attention_mask"].bool()
    place = (valid.long().cumsum(1) - 1).clamp(min=0)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        shown = model(**inputs, position_ids=place, output_attentions=True).attentions[layer - 1]
    asks = valid.clone()
    if queries == "last":
        asks &= place == place.masked_fill(~valid, -1).amax(1, keepdim=True)
    expected = (shown.mean(1) * asks[:, :, None]).sum(1) / asks.sum(1, keepdim=True)
    scores: list[torch.Tensor] = []

    def watched(sight: Sight) -> torch.Tensor:
        scores.append(received(sight, queries))
        return scores[-1]

    policy = replace(FastV(0.99, layer=layer).policy(), score=watched)
    with torch.no_grad():
        prefill(anatomy.of(model), inputs, (policy,))
    assert torch.allclose(scores[0][valid], expected[valid], atol=1e-6)
