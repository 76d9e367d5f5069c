"""The attention of a layer as a policy sees it, computed beside the library's from what ``see`` was shown."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.core.keep import Sight


def attention(sight: Sight, queries: Integer[Tensor, "b w"]) -> Iterator[Float[Tensor, "b r w t"]]:
    """For each key head, what the tokens at ``queries`` give every key in its r query heads, float32:

        softmax over keys of  scaling * q . k,  where the layer's mask lets the query see, sizes of merged keys included

    One key head at a time, so that no more than its share is in memory. Raises ValueError without queries and keys.
    """
    q, k = sight.q, sight.k
    if q is None or k is None:
        raise ValueError(f"layer {sight.layer}: no queries and keys were shown")
    scaling = q.shape[-1] ** -0.5 if sight.scaling is None else sight.scaling
    q = q.gather(2, queries[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3]))
    mask = seen(sight, queries)
    heads = q.unflatten(1, (k.shape[1], -1)).unbind(1)  # the query heads of each key head
    for several, key in zip(heads, k.unbind(1), strict=True):
        logits = (several.float() * scaling) @ key.float()[:, None].transpose(2, 3)
        if mask.dtype == torch.bool:
            logits = logits.masked_fill(~mask, torch.finfo(torch.float32).min)
        else:
            logits = logits + mask.float()
        yield logits.softmax(-1)


def seen(sight: Sight, queries: Integer[Tensor, "b w"]) -> Bool[Tensor, "b 1 w t"] | Float[Tensor, "b 1 w t"]:
    """The layer's mask for some queries; without one, every valid token up to the query's own place."""
    if sight.mask is not None:
        return sight.mask.gather(2, queries[:, None, :, None].expand(-1, -1, -1, sight.mask.shape[3]))
    order, valid = sight.stream.source, sight.stream.valid
    return ((order.gather(1, queries)[:, :, None] >= order[:, None, :]) & valid[:, None, :])[:, None]
