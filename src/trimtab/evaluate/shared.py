"""Picture features computed once for all questions of a batch that show the same picture.

Through the library's own arguments: ``get_image_features`` makes what ``generate(mm_encoder_outputs=...)`` takes. It
applies where a picture is one row of ``pixel_values`` and nothing else (LLaVA and its like); elsewhere, and for models
whose forward does not take the argument, the batch goes through as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor

TEXT_KEYS = {"input_ids", "attention_mask", "mm_token_type_ids"}


def takes_features(model: Any) -> bool:
    """Whether ``model.forward`` accepts features of pictures in place of pixels."""
    return hasattr(model, "get_image_features") and "mm_encoder_outputs" in inspect.signature(model.forward).parameters


def share(model: Any, batch: dict[str, Tensor], pictures: Sequence[str | None]) -> dict[str, Any]:
    """``batch`` with features for pixels; ``pictures`` names the picture of each row (None: one of its own)."""
    first: dict[str, int] = {}
    which = [first.setdefault(name or f"row/{row}", row) for row, name in enumerate(pictures)]
    if set(batch) - TEXT_KEYS != {"pixel_values"} or len(batch["pixel_values"]) != len(which):
        return dict(batch)
    if len(first) == len(which) or not takes_features(model):
        return dict(batch)
    rest = {name: value for name, value in batch.items() if name != "pixel_values"}
    rows = sorted(first.values())
    found = model.get_image_features(pixel_values=batch["pixel_values"][rows], return_dict=True)
    at = {row: place for place, row in enumerate(rows)}
    places, pooled = [at[row] for row in which], found.pooler_output
    features = pooled[places] if isinstance(pooled, Tensor) else [pooled[place] for place in places]
    return rest | {"mm_encoder_outputs": {"image": type(found)(pooler_output=features)}}
