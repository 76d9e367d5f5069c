"""FastV: after the first layers, keep the image tokens that receive the most attention.

With a_h(i, j) = softmax_j(scaling * q_i . k_j) the attention of head h in the layer before ``layer`` (counted from 0,
so ``layer=2`` looks at the second), image token j has the score

    mean over heads h and queries i of  a_h(i, j)

where i is the last token of the prompt, or every token of it. The best-scored share goes on to ``layer`` and all later
ones: hidden states, positions and KV rows of the others end here.

Source: Chen et al., "An Image is Worth 1/2 Tokens After Layer 2", ECCV 2024, arXiv 2403.06764; the authors' public code
is pkunlp-icler/FastV. ``trimtab.tokens.flops`` has the paper's count of operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.keep import Keep, Place, Sight, share

Queries = Literal["last", "all"]


@dataclass(frozen=True)
class FastV:
    """``keep``: the share of each sample's image tokens that enters ``layer`` and all later ones, above 0, at most 1.

    ``layer``: 1 or more, since the layer before it gives the score. ``queries``: whose attention counts, the last
    token's or everyone's. ``policy`` raises ValueError outside these.
    """

    keep: float
    layer: int = 2
    queries: Queries = "last"

    CARD: ClassVar[Card] = Card(
        name="fastv",
        family="tokens",
        title="An Image is Worth 1/2 Tokens After Layer 2",
        year=2024,
        where="ECCV 2024, arXiv 2403.06764",
        saves="prefill",
        baseline="random_tokens",
        guarantee="usual",
        establishes=("tokens_kept",),
        preserves=("on_grid", "masked", "low_rank", "adapter", "tokens_kept"),
        departures=(
            "k is rounded half up and at least 1 (the authors round down). All images of a sample are one set. "
            "layer=0, where the authors choose at random for lack of attention, is refused: use random_tokens. "
            "queries='all' is the paper's text, queries='last' the authors' code and our default."
        ),
    )

    def policy(self) -> Keep:
        if self.layer < 1:
            raise ValueError(f"layer: got {self.layer}; accepted: 1 or more (the layer before it gives the score)")
        if self.queries not in ("last", "all"):
            raise ValueError(f"queries: got {self.queries!r}; accepted: 'last', 'all'")
        score = partial(received, queries=self.queries)
        return Keep(score=score, budget=share(self.keep), at=Place(layer=self.layer))


def received(sight: Sight, queries: Queries) -> Float[Tensor, "b t"]:
    """The attention that each token receives, mean over heads and over the last or all valid queries.

    Raises ValueError where the sight holds no attention for the tokens of its stream.
    """
    stream, q, k = sight.stream, sight.q, sight.k
    if q is None or k is None or k.shape[2] != stream.x.shape[1]:
        raise ValueError(f"fastv at layer {sight.layer}: no attention over these tokens from the layer before")
    seen = causal(sight) if sight.mask is None else sight.mask
    asks = stream.valid
    if queries == "last":
        last = (asks.shape[1] - 1 - asks.flip(1).int().argmax(1))[:, None]
        q = q.gather(2, last[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3]))
        seen = seen.gather(2, last[:, None, :, None].expand(-1, -1, -1, seen.shape[3]))
        asks = asks.gather(1, last)
    scaling = q.shape[-1] ** -0.5 if sight.scaling is None else sight.scaling
    heads = q.view(q.shape[0], k.shape[1], -1, *q.shape[2:]).unbind(1)  # the query heads of each key head
    total = torch.zeros(stream.kinds.shape, device=q.device)
    for several, key in zip(heads, k.unbind(1), strict=True):
        total += summed(several.float() * scaling, key.float(), seen, asks)
    return total / (q.shape[1] * asks.sum(1, keepdim=True))


def summed(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b t d"],
    seen: Bool[Tensor, "b 1 s t"],
    asks: Bool[Tensor, "b s"],
) -> Float[Tensor, "b t"]:
    """The softmax of q . k over the keys that are seen, summed over heads and over the queries that ask."""
    logits = (q @ k[:, None].transpose(2, 3)).masked_fill(~seen, torch.finfo(torch.float32).min)
    return (logits.softmax(-1) * asks[:, None, :, None]).sum((1, 2))


def causal(sight: Sight) -> Bool[Tensor, "b 1 t t"]:
    """Every valid token up to the query's own place, for models that give no mask."""
    order, valid = sight.stream.source, sight.stream.valid
    return ((order[:, :, None] >= order[:, None, :]) & valid[:, None, :])[:, None]
