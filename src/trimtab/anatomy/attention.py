"""Attention is seen through the library's public door, and computed by the library's own SDPA.

``see``, passed to a layer as a keyword, travels with the layer's other keywords to the attention function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "trimtab"
See = Callable[[Tensor, Tensor, "Tensor | None", "float | None"], None]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    see: See | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Show q (b, heads, t, d) and k (b, kv_heads, s, d) after rotary, the mask and the scaling; then plain SDPA."""
    if see is not None:
        see(query, key, attention_mask, kwargs.get("scaling"))
    answer: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return answer


def open_door(model: PreTrainedModel) -> None:
    """Register ``trimtab`` attention with its mask function (without it the library would pass no mask, and padding
    would be attended to) and set it for ``model`` and its parts, whose own forward goes on as before."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
