"""Prompts for torch's engines, and what is read from their logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trimtab.engines.base import Words


def batch_of(ids: Sequence[int]) -> dict[str, Tensor]:
    made = torch.tensor([list(ids)])
    return {"input_ids": made, "attention_mask": torch.ones_like(made)}


def likeliest(logits: Tensor, count: int) -> Words:
    """Of ``logits`` (words,)."""
    found = logits.float().log_softmax(-1).topk(min(count, len(logits)))
    return dict(zip(found.indices.tolist(), found.values.tolist(), strict=True))
