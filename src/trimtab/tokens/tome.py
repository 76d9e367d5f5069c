"""ToMe: merge the image tokens that are most alike, and count how many each stands for.

The n image tokens of a sample are dealt alternately to A and B. Each of A proposes to its most similar one of B, by the
cosine of a feature m; the r strongest proposals are carried out, r = n - budget but at most floor(n / 2):

    x_b <- (s_b x_b + sum of s_a x_a) / (s_b + sum of s_a),   s_b <- s_b + sum of s_a        over the a that go into b

and, where more must go, those that are left are dealt again. m is x itself before the first layer, else the keys of the
layer before, averaged over heads. A merged key is attended to as the tokens that it stands for would be, which in the
layers behind adds log(s) to q . k.

Source: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, arXiv 2210.09461; the authors' public code is
facebookresearch/ToMe. Time n^2 d / 4 per round and sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.card import Card
from trimtab.core.keep import Merge, Place, Sight, share
from trimtab.core.stats import IMAGE


@dataclass(frozen=True)
class ToMe:
    """``keep``: the share of each sample's image tokens that is left, above 0 and at most 1. ``layer``: on entering
    which decoder layer they merge; 0 as they leave the projector. ``policy`` raises ValueError outside these."""

    keep: float
    layer: int = 0

    CARD: ClassVar[Card] = Card(
        name="tome",
        family="tokens",
        title="Token Merging: Your ViT But Faster",
        year=2023,
        where="ICLR 2023, arXiv 2210.09461",
        saves="prefill",
        baseline="random_tokens",
        guarantee="usual",
        establishes=("tokens_kept",),
        preserves=("on_grid", "acts_8bit", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
        departures=(
            "The authors merge r tokens in every block of a vision transformer; here image tokens merge in the "
            "language model, all at one layer, in rounds where fewer than half are kept. A merged token has the "
            "position of the one it went into. Keys are taken after rotary embedding. All images of a sample are one "
            "set."
        ),
    )

    def policy(self) -> Merge:
        if self.layer < 0:
            raise ValueError(f"layer: got {self.layer}; accepted: 0 or more")
        return Merge(match=partial(matched, layer=self.layer), budget=share(self.keep), at=Place(layer=self.layer))


def matched(sight: Sight, count: Integer[Tensor, " b"], layer: int) -> Integer[Tensor, "b t"]:
    """For each token the place of the one that it goes into; ``count`` image tokens of each row stay. One sample at a
    time, so that its batch cannot change a bit.

    Raises ValueError where the sight holds no keys for the tokens of its stream and ``layer`` is not 0.
    """
    stream = sight.stream
    feature = stream.x
    if layer > 0:
        if sight.k is None or sight.k.shape[2] != stream.x.shape[1]:
            raise ValueError(f"tome at layer {sight.layer}: no keys of these tokens from the layer before")
        feature = sight.k.mean(1)
    into = torch.arange(feature.shape[1], device=feature.device).repeat(len(feature), 1)
    size = stream.sizes()
    for row, image in enumerate(stream.kinds == IMAGE):
        places = image.nonzero()[:, 0]
        into[row, places] = places[joined(feature[row, places].detach().float(), size[row, places], int(count[row]))]
    return into


def joined(feature: Float[Tensor, "n d"], size: Float[Tensor, " n"], count: int) -> Integer[Tensor, " n"]:
    """Where each of n tokens goes so that ``count`` are left: bipartite soft matching, in as many rounds as that takes.
    Ties go to the earlier token."""
    into = torch.arange(len(feature), device=feature.device)
    left = into.clone()
    while len(left) > count:
        a, b = left[::2], left[1::2]
        strength, partner = proposals(feature[a], feature[b])
        strongest = strength.argsort(descending=True, stable=True)[: min(len(left) - count, len(b))]
        goes = torch.arange(len(feature), device=feature.device)
        goes[a[strongest]] = b[partner[strongest]]
        into = goes[into]
        total = torch.zeros_like(size).index_add_(0, goes, size)
        summed = torch.zeros_like(feature).index_add_(0, goes, feature * size[:, None])
        feature, size = summed / total.clamp(min=1)[:, None], total
        left = left[goes[left] == left]
    return into


def proposals(a: Float[Tensor, "m d"], b: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " m"], Integer[Tensor, " m"]]:
    """For each of ``a`` the greatest cosine to one of ``b``, and which one that is."""
    like = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    strength, partner = like.max(1)
    return strength, partner
