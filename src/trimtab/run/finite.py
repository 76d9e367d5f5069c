"""Matrices and statistics that hold something that is no number: named with their channels before they spoil a fit."""

from __future__ import annotations

import torch

from trimtab.core.finite import finite
from trimtab.core.stats import Gram
from trimtab.core.weight import ROWS, Weight, rows


def broken_weights(w: Weight) -> str | None:
    """How many output channels hold NaN or infinite weights, and the first; None where all are numbers."""
    parts = torch.split(torch.arange(w.shape[0]), ROWS)
    if all(finite(rows(w, index)) for index in parts):
        return None
    wrong = torch.cat([(~rows(w, index).isfinite()).sum(1) for index in parts])
    channels = wrong.nonzero()[:, 0]
    count, first = int(wrong.sum()), int(channels[0])
    return (f"{len(channels)} of {len(wrong)} output channels hold {count} weights that are NaN or infinite (first: "
            f"channel {first}); repair the checkpoint, or put the layer under ignore")  # fmt: skip


def broken_inputs(gram: Gram) -> str | None:
    """How many input channels were not finite over calibration, and the first; None where all were."""
    wrong = (~gram.squares.isfinite()).nonzero()[:, 0]
    if not len(wrong):
        return None
    return (f"{len(wrong)} of {len(gram.squares)} input channels held NaN or infinite values over calibration (the "
            f"first: channel {int(wrong[0])}). Look at the calibration data of this layer, and whether the model "
            "overflows in its dtype (dtype: float32)")  # fmt: skip
