"""DivPrune: keep the image tokens that are farthest from one another.

With d(i, j) = 1 - cos(x_i, x_j) over the n image tokens of a sample as they leave the projector, S starts from the
token whose nearest neighbour is farthest and grows by

    argmax over j not in S of  min over i in S of  d(i, j)

until it holds k tokens. On unit vectors |x_i - x_j|^2 = 2 d(i, j), so this is farthest-first traversal in a metric: the
least distance within S is at least half of the best that any k tokens have.

Source: Alvar et al., "DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models", CVPR 2025,
arXiv 2503.02175; the authors' public code is vbdi/divprune. Time n^2 d + k n per sample, memory n^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.card import Card
from trimtab.core.keep import Keep, Place, Sight, alike, share
from trimtab.core.stats import IMAGE


@dataclass(frozen=True)
class DivPrune:
    """``keep``: the share of each sample's image tokens that stays, above 0 and at most 1 (ValueError otherwise)."""

    keep: float

    CARD: ClassVar[Card] = Card(
        name="divprune",
        family="tokens",
        title="DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models",
        year=2025,
        where="CVPR 2025, arXiv 2503.02175",
        saves="prefill",
        baseline="random_tokens",
        guarantee="usual",
        establishes=("tokens_kept",),
        preserves=("on_grid", "masked", "tokens_kept"),
        departures=(
            "A chosen token cannot be chosen again (in the authors' code it can, once only exact duplicates are left). "
            "Kept tokens keep their original positions; the authors renumber them. All images of a sample are one "
            "set. k is rounded half up and at least 1. A token of length zero is at distance 1 from all others."
        ),
    )

    def policy(self) -> Keep:
        return Keep(score=alike, budget=share(self.keep), pick=farthest_first, at=Place(layer=0))


def distances(unit: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """1 - cos between all pairs of unit vectors. One sample at a time, so that its batch cannot change a bit of it."""
    return 1 - unit @ unit.T


def farthest_first(sight: Sight, scores: Float[Tensor, "b t"], count: Integer[Tensor, " b"]) -> Bool[Tensor, "b t"]:
    """True at ``count`` image tokens of each row: the most isolated one, then always the farthest from those chosen."""
    image = sight.stream.kinds == IMAGE
    sizes = image.sum(1).tolist()
    n = max(sizes)
    if n == 0:
        return image
    unit = F.normalize(sight.stream.x[image].detach().float(), dim=-1)
    between = unit.new_full((len(image), n, n), torch.inf)
    for row, own in enumerate(unit.split(sizes)):
        between[row, : len(own), : len(own)] = distances(own)
    present = torch.arange(n, device=image.device) < torch.tensor(sizes, device=image.device)[:, None]
    picked = torch.zeros_like(image)
    picked[image] = traverse(between, present, count.to(image.device))[present]
    return picked


def traverse(
    between: Float[Tensor, "b n n"], present: Bool[Tensor, "b n"], count: Integer[Tensor, " b"]
) -> Bool[Tensor, "b n"]:
    """Farthest-first traversal of every row at once; ties go to the earlier token. ``between`` is inf where a token is
    not ``present``; its diagonal is overwritten.

    A token is -inf from itself, so that one chosen is never the farthest again. A row that wants fewer than others is
    traversed as long and cut afterwards: four small operations for each step, which is what this costs.
    """
    rows, n, _ = between.shape
    itself = between.diagonal(dim1=1, dim2=2)
    itself.fill_(torch.inf)
    start = between.amin(2).masked_fill(~present, -torch.inf).argmax(1)
    itself.fill_(-torch.inf)
    flat, first = between.view(rows * n, n), torch.arange(rows, device=between.device) * n
    nearest = torch.where(present, torch.inf, -torch.inf).to(between)
    order = start.repeat(int(count.max()), 1)
    at, apart = first + start, torch.empty_like(nearest)
    for found in order.unbind()[1:]:
        torch.index_select(flat, 0, at, out=apart)
        torch.argmax(torch.minimum(nearest, apart, out=nearest), 1, out=found)
        torch.add(found, first, out=at)
    live = torch.arange(len(order), device=order.device)[:, None] < count
    chosen = torch.zeros_like(present)
    chosen[torch.arange(rows, device=order.device).expand_as(order)[live], order[live]] = True
    return chosen
