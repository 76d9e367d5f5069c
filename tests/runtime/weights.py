"""Weights in every form that the compiled library reads, and what their products are held to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trimtab.core.codebook import Codebook
from trimtab.core.fit import Site
from trimtab.core.native import library
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.prune.pattern import kept
from trimtab.quantize import FP4, NF4, RTN

HERE = 0 if library() is None else int(library().trimtab_level())  # type: ignore[union-attr]
levels = pytest.mark.parametrize("level", range(HERE + 1))
SITE = Site("layer", lambda: torch.empty(0, 0))  # not looked at
FORMS: dict[str, Callable[[Tensor], Weight]] = {
    "dense": lambda w: Dense(nn.Parameter(w)),
    **{f"{bits} bits": lambda w, bits=bits: RTN(bits, 16)(Dense(w), SITE) for bits in (2, 3, 4, 8)},
    **{f"{bits} bits symmetric": lambda w, bits=bits: RTN(bits, 48, symmetric=True)(Dense(w), SITE)
       for bits in (3, 4, 8)},
    "8 bits by rows": lambda w: RTN(8, -1, symmetric=True)(Dense(w), SITE),
    "half of it": lambda w: Masked.of(w, torch.rand(w.shape) < 0.5),
    "2:4": lambda w: Masked.of(w, kept(w.float().abs(), 0.5, "2:4")),
    "nf4": lambda w: NF4(48)(Dense(w), SITE),
    "mxfp4": lambda w: FP4("mxfp4")(Dense(w), SITE),
    "nvfp4": lambda w: FP4("nvfp4")(Dense(w), SITE),
}  # fmt: skip
EXACT = {torch.float32: 5e-6, torch.bfloat16: 4e-3}
"""Of the largest output: an output of bfloat16 is rounded by 2^-9 of itself; zeros are taken off the sum of a group,
which may be much larger than what is left."""
TILED, HALVES = 1.2e-2, 4e-5
"""Where weights are rounded to bfloat16 too, and where inputs are to 16 bits of the largest of their neighbours."""


def made(form: str, out: int, width: int, dtype: torch.dtype) -> Weight:
    torch.manual_seed(out + width)
    return FORMS[form](torch.randn(out, width).to(dtype))


def stored(w: Weight) -> Tensor:
    """Its numbers before they are rounded to its dtype."""
    if isinstance(w, Quantized):
        return Quantized(w.codes, w.scale.double(), w.zero, w.bits, w.group_size).dense().double()
    if isinstance(w, Codebook):
        return Codebook(w.codes, w.scales, w.levels, torch.float32).dense().double()
    return w.dense().double()


def far(y: Tensor, reference: Tensor) -> float:
    return float((y.detach().double() - reference.detach()).abs().max() / reference.abs().max().detach())
