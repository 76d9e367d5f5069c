"""Who sees whom, from positions and valid only: lengths say nothing once tokens have been dropped.

True where a query attends to a key, (b, 1, t, s), as the library's SDPA takes it; (b, g, t, s) where the g key heads
store different entries, whose positions and validity are (b, g, s). A padding query sees itself and whatever else the
rule gives it, so that no row is empty; nothing valid ever sees padding.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor


def causal(
    queries: Integer[Tensor, "b t"],
    keys: Integer[Tensor, "b *g s"],
    valid: Bool[Tensor, "b *g s"],
    window: int | None,
) -> Bool[Tensor, "b h t s"]:
    """A key is seen from its own position on, and for ``window`` positions in all where there is one.

    The queries are the last t of the s keys.
    """
    gap = queries[:, None, :, None] - _by_head(keys)
    seen = (gap >= 0) & _by_head(valid)
    if window is not None:
        seen &= gap < window
    return _itself(seen)


def needed(
    queries: Integer[Tensor, "b t"],
    keys: Integer[Tensor, "b *g s"],
    valid: Bool[Tensor, "b *g s"],
    window: int | None,
) -> Bool[Tensor, "b h t s"] | None:
    """``causal``, or None where that says no more than SDPA's own rule without a mask (every key up to the query's own
    place; all of them for a single query), which is computed faster and reads no mask in each layer."""
    count, stored = queries.shape[1], keys.shape[-1]
    if count in (1, stored) and _is_plain(queries, keys, valid, window):
        return None
    seen = causal(queries, keys, valid, window)
    if count not in (1, stored):
        return seen
    plain = torch.ones(count, stored, dtype=torch.bool, device=seen.device).tril_(stored - count)
    return None if torch.equal(seen, plain.expand_as(seen)) else seen


def _is_plain(
    queries: Integer[Tensor, "b t"], keys: Integer[Tensor, "b *g s"], valid: Bool[Tensor, "b *g s"], window: int | None
) -> bool:
    """Whether positions alone say so: nothing padded, every key behind the one before, none out of the window. Reads a
    number for each key where the mask has one for each pair."""
    if keys.ndim != 2 or not bool(valid.all()) or not bool((keys.diff() > 0).all()):
        return False
    near = window is None or bool((keys[:, -1] - keys[:, 0] < window).all())
    return near and torch.equal(queries, keys[:, -queries.shape[1] :])


def with_blocks(
    queries: Integer[Tensor, "b t"],
    keys: Integer[Tensor, "b s"],
    valid: Bool[Tensor, "b s"],
    window: int | None,
    block: Integer[Tensor, "b s"],
    bounded: bool = False,
) -> Bool[Tensor, "b 1 t s"]:
    """``causal``, and tokens of one ``block`` (0 or more; -1 for none) see all of it, before and behind them.

    ``bounded``: of what lies behind a token, its own block included, only what is inside the window (Gemma 3);
    else a token sees its block whole, however long (PaliGemma 2).
    """
    own = block[:, -queries.shape[1] :]
    same = (own[:, :, None] == block[:, None, :]) & (block[:, None, :] >= 0) & valid[:, None, :]
    seen = causal(queries, keys, valid, window) | same[:, None]
    if bounded and window is not None:
        seen &= (queries[:, :, None] - keys[:, None, :] < window)[:, None]
    return seen


def filled(valid: Bool[Tensor, "b s"]) -> Bool[Tensor, "b 1 s s"] | None:
    """Every query, padding included, sees the valid tokens and no other; None where all are. For encoders from which
    the states of padding are read too (SigLIP pools the last place of a text, Idefics3 projects padded patches)."""
    return None if bool(valid.all()) else valid[:, None, None, :].expand(-1, 1, valid.shape[1], -1)


def everywhere(valid: Bool[Tensor, "b s"]) -> Bool[Tensor, "b 1 s s"]:
    """Every token sees every valid one."""
    return _itself(valid[:, None, None, :].repeat(1, 1, valid.shape[1], 1))


def additive(seen: Bool[Tensor, "b h t s"], dtype: torch.dtype) -> Float[Tensor, "b h t s"]:
    """0 where seen, the lowest number of ``dtype`` elsewhere, for attention that adds its mask (``eager``)."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


def shown(
    queries: Integer[Tensor, "b t"],
    keys: Integer[Tensor, "b *g s"],
    valid: Bool[Tensor, "b *g s"],
    window: int | None,
    heads: int,
    block: Integer[Tensor, "b s"] | None = None,
    bounded: bool = False,
    size: Float[Tensor, "b *g s"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor | None:
    """What a decoder layer of ``heads`` query heads is given: ``needed`` or ``with_blocks``, for every query head where
    key heads differ. A key that stands for ``size`` tokens is attended to as that many equal ones would be: log(size)
    is added to q . k (proportional attention, Bolya et al. 2023), by a mask in ``dtype`` where any size is not 1."""
    if block is None:
        seen = needed(queries, keys, valid, window)
    else:
        seen = with_blocks(queries, keys, valid, window, block, bounded)
    if size is not None and bool((size != 1).any()):
        if seen is None:
            seen = causal(queries, keys, valid, window)
        seen = additive(seen, dtype) + _by_head(size).log().to(dtype)
    if seen is None or seen.shape[1] in (1, heads):
        return seen
    return seen.repeat_interleave(heads // seen.shape[1], 1)


def _by_head(t: Tensor) -> Tensor:
    """(b, s) or (b, g, s) of keys beside (b, g, t, s)."""
    return (t[:, None] if t.ndim == 2 else t)[:, :, None, :]


def _itself(seen: Bool[Tensor, "b g t s"]) -> Bool[Tensor, "b g t s"]:
    seen.diagonal(offset=seen.shape[3] - seen.shape[2], dim1=2, dim2=3).fill_(True)
    return seen
