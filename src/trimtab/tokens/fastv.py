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
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.keep import Keep, Place, Sight, share
from trimtab.core.look import attention

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
        preserves=("on_grid", "acts_8bit", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
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
    asks = stream.valid
    places = torch.arange(asks.shape[1], device=asks.device).expand_as(asks)
    if queries == "last":
        places = (asks.shape[1] - 1 - asks.flip(1).int().argmax(1))[:, None]
        asks = asks.gather(1, places)
    total = torch.zeros(stream.kinds.shape, device=q.device)
    for given in attention(sight, places):
        total += (given * asks[:, None, :, None]).sum((1, 2))
    return total / (q.shape[1] * asks.sum(1, keepdim=True))
