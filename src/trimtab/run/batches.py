"""Calibration batches put together, so that a block runs over as many samples at once as memory allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Batch = dict[str, Tensor]


def tokens(batch: Batch) -> int:
    """Places in the text sequences, padding included; pictures alone count one for each 16 x 16 patch, spectrograms
    one for two frames."""
    if "input_ids" in batch:
        return batch["input_ids"].numel()
    if "input_features" in batch:
        return batch["input_features"][:, 0].numel() // 2
    return sum(value.numel() for value in batch.values()) // 768


def joined(batches: Iterable[Batch], max_tokens: int) -> list[Batch]:
    """Neighbouring batches as one, in order, as long as it holds at most ``max_tokens``; none is ever split."""
    groups: list[list[Batch]] = []
    for batch in batches:
        together = [*groups[-1], batch] if groups else [batch]
        if groups and _fits(together) and _padded(together) <= max_tokens:
            groups[-1] = together
        else:
            groups.append([batch])
    return [group[0] if len(group) == 1 else _join(group) for group in groups]


def _padded(group: Sequence[Batch]) -> int:
    if "input_ids" not in group[0]:
        return sum(map(tokens, group))
    return sum(len(b["input_ids"]) for b in group) * max(b["input_ids"].shape[1] for b in group)


def _fits(group: Sequence[Batch]) -> bool:
    """The same keys, and for all that is not text the same shape for each row."""

    def shape(batch: Batch) -> dict[str, object]:
        return {key: "text" if _textual(batch, key) else value.shape[1:] for key, value in batch.items()}

    return all(shape(batch) == shape(group[0]) for batch in group)


def _textual(batch: Batch, key: str) -> bool:
    return "input_ids" in batch and batch[key].shape == batch["input_ids"].shape


def _join(group: Sequence[Batch]) -> Batch:
    """Text is padded on the right, where it moves no position and no causal token looks; added places are masked."""
    if "input_ids" not in group[0]:
        return {key: torch.cat([batch[key] for batch in group]) for key in group[0]}
    length = max(batch["input_ids"].shape[1] for batch in group)
    rows = [_pad({"attention_mask": torch.ones_like(batch["input_ids"]), **batch}, length) for batch in group]
    return {key: torch.cat([batch[key] for batch in rows]) for key in rows[0]}


def _pad(batch: Batch, length: int) -> Batch:
    """Added ids repeat the batch's last word, which is no placeholder of a picture; everything else gets 0."""
    more = length - batch["input_ids"].shape[1]
    word = int(batch["input_ids"][batch["attention_mask"].bool()][-1])
    return {
        key: F.pad(value, (0, more), value=word if key == "input_ids" else 0) if _textual(batch, key) else value
        for key, value in batch.items()
    }
