"""Attention is seen through the library's public door, and computed by the library's own SDPA.

``see``, passed to a layer as a keyword, travels with the layer's other keywords to the attention function; where the
layers do not pass them on (SigLIP's), it stands on the attention module meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "trimtab"
MORE = ("position_bias", "cache")
"""Of what SDPA may be given, what changes its answer beside the mask."""
See = Callable[[Tensor, Tensor, "Tensor | None", "float | None"], None]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    see: See | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Show q (b, heads, t, d) and k (b, kv_heads, s, d) after rotary, the mask and the scaling; then plain SDPA,
    ``capped`` where the scores have a cap, or, where all is seen, the ``kernel`` that the runtime put on the module."""
    see = see or getattr(module, "see", None)
    if see is not None:
        see(query, key, attention_mask, kwargs.get("scaling"))
    kernel, causal = getattr(module, "kernel", None), kwargs.get("is_causal")
    plain = softcap is None and attention_mask is None and not kwargs.get("dropout") and kwargs.get("scaling")
    plain = plain and all(kwargs.get(name) is None for name in MORE)
    if kernel is not None and plain and not (getattr(module, "is_causal", True) if causal is None else causal):
        seen: Tensor | None = kernel(query, key, value, kwargs["scaling"])
        if seen is not None:
            return seen, None
    if softcap is not None:
        return capped(query, key, value, attention_mask, kwargs["scaling"], softcap, kwargs.get("dropout", 0.0)), None
    answer: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return answer


def capped(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    mask: Bool[Tensor, "b 1 t s"] | None,
    scaling: float,
    cap: float,
    dropout: float = 0.0,
) -> Float[Tensor, "b t h d"]:
    """softmax(cap tanh(q k^T scaling / cap)) v, softmax in float32 (Gemma 2, 2024), which SDPA does not know.

    Without a mask every key up to the query's own place is seen. A query that sees nothing is no NaN: its value would
    reach others through their masked keys.
    """
    k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
    scores = cap * torch.tanh(q @ k.mT * scaling / cap)
    if mask is None:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = nn.functional.dropout(scores.softmax(-1, dtype=torch.float32).to(q.dtype), dropout, dropout > 0)
    return (weights @ v).transpose(1, 2).contiguous()


@contextmanager
def shown(module: Any, see: See | None) -> Iterator[None]:
    """``see`` on the attention ``module`` of a layer that does not pass keywords on."""
    if see is None:  # nothing to show, and nothing that another thread could take away
        yield
        return
    module.see = see
    try:
        yield
    finally:
        del module.see


def open_door(model: PreTrainedModel) -> None:
    """Register ``trimtab`` attention with its mask function (without it the library would pass no mask, and padding
    would be attended to) and set it for ``model`` and its parts, whose own forward goes on as before."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
