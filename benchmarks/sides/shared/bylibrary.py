"""A prompt and greedy words behind it by the library's own model, timed as every side does it."""

from __future__ import annotations

import time
from typing import Any

import torch


def answered(model: Any, batch: dict[str, torch.Tensor], tokens: int) -> dict[str, Any]:
    """Seconds to the first word and behind it, and what was said."""
    begun = time.perf_counter()
    found = model(**batch, use_cache=True, logits_to_keep=1)
    said, cache = [int(found.logits[0, -1].argmax())], found.past_key_values
    first = time.perf_counter() - begun
    while len(said) < tokens:
        found = model(input_ids=torch.tensor([[said[-1]]]), past_key_values=cache)
        said.append(int(found.logits[0, -1].argmax()))
    return {"first": first, "after": time.perf_counter() - begun - first, "said": said}
