"""Rotary angles of a decoder's layers, for as many positions as were asked for yet."""

from __future__ import annotations

import torch
from torch import Tensor

from trimtab.anatomy.decoder import Decoder
from trimtab.core.errors import BadInput

FIRST = 4096
"""Positions that have angles at first: 8 MB where heads of 256 have two kinds of layers; all of Gemma's take 67."""


class Angles:
    """``most``: positions that the model has. What was made last is held here, since a plan points to it."""

    def __init__(self, decoder: Decoder, most: int) -> None:
        self.decoder, self.most = decoder, most
        self.made: dict[str, tuple[Tensor, Tensor]] = {}

    def of_layers(self, span: int) -> list[tuple[Tensor, Tensor]]:
        """Of each layer (span, half) cosines and sines, float32; the same tensors for layers of one kind. Raises
        BadInput where angles follow a grid, or layers have several widths."""
        self.made = {kind: self._of(kind, span) for kind in dict.fromkeys(self.decoder.kinds)}
        if len({cos.shape for cos, _ in self.made.values()}) > 1:
            raise BadInput("rotary angles of several widths")
        return [self.made[kind] for kind in self.decoder.kinds]

    def _of(self, kind: str, span: int) -> tuple[Tensor, Tensor]:
        assert self.decoder.rotary is not None
        with torch.no_grad(), self.decoder.turning:
            cos, sin = self.decoder.rotary(torch.arange(span)[None], torch.float32, kind)
        if cos.ndim != 3:
            raise BadInput("rotary angles that follow a grid")
        half = cos.shape[-1] // 2
        return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
