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

import numpy as np
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
        preserves=("on_grid", "acts_8bit", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
        departures=(
            "A chosen token cannot be chosen again (in the authors' code it can, once only exact duplicates are left). "
            "Kept tokens keep their original positions; the authors renumber them. All images of a sample are one "
            "set. k is rounded half up and at least 1. A token of length zero is at distance 1 from all others."
        ),
    )

    def policy(self) -> Keep:
        return Keep(score=alike, budget=share(self.keep), pick=farthest_first, at=Place(layer=0))


def likeness(unit: Float[Tensor, "n d"], out: Float[Tensor, "n n"]) -> None:
    """cos = 1 - d between all pairs of unit vectors. One sample at a time, so that its batch cannot change a bit."""
    torch.mm(unit, unit.T, out=out)


def farthest_first(sight: Sight, scores: Float[Tensor, "b t"], count: Integer[Tensor, " b"]) -> Bool[Tensor, "b t"]:
    """True at ``count`` image tokens of each row: the most isolated one, then always the farthest from those chosen."""
    image = sight.stream.kinds == IMAGE
    sizes = image.sum(1).tolist()
    n = max(sizes)
    if n == 0:
        return image
    unit = F.normalize(sight.stream.x[image].detach().float(), dim=-1)
    like = unit.new_empty(len(image), n, n) if min(sizes) == n else unit.new_full((len(image), n, n), -torch.inf)
    for row, own in enumerate(unit.split(sizes)):
        likeness(own, like[row, : len(own), : len(own)])
    present = torch.arange(n, device=image.device) < torch.tensor(sizes, device=image.device)[:, None]
    picked = torch.zeros_like(image)
    picked[image] = traverse(like, present, count.to(image.device))[present]
    return picked


def traverse(
    like: Float[Tensor, "b n n"], present: Bool[Tensor, "b n"], count: Integer[Tensor, " b"]
) -> Bool[Tensor, "b n"]:
    """Farthest-first traversal of every row at once, by likeness 1 - d; ties go to the earlier token. ``like`` is -inf
    where a token is not ``present``; its diagonal is overwritten.

    A token is inf like itself, so that one chosen is never the farthest again. A row that wants fewer than others is
    traversed as long and cut afterwards. What this costs is the start of four small operations for each step, which
    NumPy starts in half of torch's time, so the steps are taken there, on the CPU.
    """
    rows, n, _ = like.shape
    itself = like.diagonal(dim1=1, dim2=2)
    itself.fill_(-torch.inf)
    start = like.amax(2).masked_fill(~present, torch.inf).argmin(1)
    itself.fill_(torch.inf)
    flat, first = like.view(rows * n, n).cpu().numpy(), np.arange(rows) * n
    nearest = torch.where(present, -torch.inf, torch.inf).to(like).cpu().numpy()
    order = start.cpu().repeat(int(count.max()), 1).numpy()
    at, beside = first + order[0], np.empty_like(nearest)
    for found in order[1:]:
        flat.take(at, axis=0, out=beside, mode="clip")
        np.maximum(nearest, beside, out=nearest)
        nearest.argmin(axis=1, out=found)
        np.add(found, first, out=at)
    live = np.arange(len(order))[:, None] < count.cpu().numpy()
    chosen = np.zeros((rows, n), dtype=bool)
    chosen[np.broadcast_to(np.arange(rows), order.shape)[live], order[live]] = True
    return torch.from_numpy(chosen).to(like.device)
