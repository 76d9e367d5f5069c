"""How far sentence embeddings move, and whether a sentence's neighbours keep their order."""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F


def mean_pooled(states: Float[Tensor, "b t d"], mask: Integer[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """The mean of each row's states where ``mask`` is 1, of length 1: sentence-transformers' mean pooling."""
    weight = mask[..., None].to(states.dtype)
    return F.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)


def cosines(before: Float[Tensor, "n d"], after: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Between the two embeddings of each sentence, in float64."""
    return F.cosine_similarity(before.double(), after.double(), dim=-1)


def order_kept(before: Float[Tensor, "n d"], after: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """For each sentence Spearman's correlation, before and after, of its cosines with all the others: 1 where they
    stay in the same order. Raises ValueError with fewer than three sentences."""
    if len(before) < 3:
        raise ValueError(f"order_kept: got {len(before)} sentences; an order needs 3 or more")
    a, b = (_centred_ranks(_similarities(one)) for one in (before, after))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def _similarities(x: Float[Tensor, "n d"]) -> Float[Tensor, "n others"]:
    """Cosines of each with the others, itself left out."""
    unit, n = F.normalize(x.double(), dim=-1), len(x)
    others = ~torch.eye(n, dtype=torch.bool, device=x.device)
    return (unit @ unit.T)[others].view(n, n - 1)


def _centred_ranks(x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Ranks within each row less their mean; equal numbers share the mean of their ranks."""
    ordered = x.sort(dim=1).values
    below, upto = (torch.searchsorted(ordered, x.contiguous(), right=right) for right in (False, True))
    rank = (below + upto).double() / 2
    return rank - rank.mean(1, keepdim=True)
