"""What a token of each kind counts while a layer of the decoder is calibrated: ``calibrate.weigh``.

    H = sum of w_k x x^T over the calibration tokens x, k the kind of x

pooled: all w = 1. balanced: w = 1 for text and, for the others, the block's r of ``Sensitivity`` (MBQ, Li et al. 2024).
text, image: 1 for the one, 0 for the others. Everything outside the decoder's blocks (tower, projector, word table,
head) is calibrated pooled, whatever is said.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trimtab.anatomy import Anatomy
from trimtab.core.errors import BadInput
from trimtab.core.fit import Fit
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import IMAGE, KINDS, TEXT, Gram
from trimtab.run.arms import Weigh
from trimtab.run.gather import Make, empty

ALONE = {"text": TEXT, "image": IMAGE}


def weights(how: Weigh, name: str, sensitivity: Sensitivity | None) -> Tensor | None:
    """(kinds,) for a layer of a decoder block; None where all count alike. Raises BadInput for ``balanced`` without
    ``sensitivity``."""
    if how == "pooled":
        return None
    if how in ALONE:
        return (torch.arange(len(KINDS)) == ALONE[how]).float()
    if sensitivity is None:
        raise BadInput("calibrate.weigh: 'balanced' needs the sensitivity of the model's blocks, and none was measured")
    return sensitivity.weights(name)


def maker(anatomy: Anatomy, fit: Fit, how: Weigh, sensitivity: Sensitivity | None) -> Make:
    """The Gram with which ``fit`` is fed at each linear, with a sample of rows where the method wants some."""
    blocks = tuple(f"{anatomy.blocks()[index].name}." for index in anatomy.layers())

    def make(name: str, width: int) -> Gram:
        counts = weights(how, name, sensitivity) if name.startswith(blocks) else None
        return empty(fit.CARD, width, counts)

    return make
