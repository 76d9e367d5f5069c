"""Encoders as graphs: a text encoder, CLIP's two towers, and the eyes of a LLaVA with its projector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.export.graph.decoding import seen


class Encoding(nn.Module):
    """ids, mask and segments (b, t) -> the last hidden state (b, t, d)."""

    def __init__(self, anatomy: Any) -> None:
        super().__init__()
        self.model, self.anatomy = anatomy.model, anatomy

    def forward(
        self, input_ids: Integer[Tensor, "b t"], attention_mask: Tensor, token_type_ids: Tensor
    ) -> Float[Tensor, "b t d"]:
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        stream = self.anatomy.start(batch)
        mask = (stream.valid[:, None, :] | _diagonal(stream.valid))[:, None]
        for layer in self.model.encoder.layer:
            stream = replace(stream, x=layer(stream.x, mask))
        found: Tensor = self.anatomy.head(stream)
        return found


class Texts(nn.Module):
    """CLIP's texts: ids and mask (b, t) -> their places in the common space (b, e), of length 1."""

    def __init__(self, anatomy: Any) -> None:
        super().__init__()
        self.model, self.anatomy = anatomy.model, anatomy

    def forward(self, input_ids: Integer[Tensor, "b t"], attention_mask: Tensor) -> Float[Tensor, "b e"]:
        pixels = torch.zeros(0, 3, *_size(self.anatomy.tower))
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixels}
        stream = self.anatomy.start(batch).text
        mask = seen(None, input_ids, None, stream.valid, None)
        for layer in self.model.text_model.encoder.layers:
            stream = replace(stream, x=layer(stream.x, attention_mask=mask))
        return F.normalize(self.anatomy.pooled_text(self.anatomy.head_input(stream)), dim=-1, eps=0.0)


class Pictures(nn.Module):
    """CLIP's pictures (n, 3, h, w) -> their places in the common space (n, e), of length 1."""

    def __init__(self, anatomy: Any) -> None:
        super().__init__()
        self.model, self.anatomy = anatomy.model, anatomy

    def forward(self, pixel_values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n e"]:
        return F.normalize(self.anatomy.pooled_picture(_seen(self.anatomy.tower, pixel_values).x), dim=-1, eps=0.0)


class Eyes(nn.Module):
    """Pictures (n, 3, h, w) -> features (n, tokens, d), which stand in place of their placeholders' vectors."""

    def __init__(self, anatomy: Any) -> None:
        super().__init__()
        self.model, self.anatomy = anatomy.model, anatomy

    def forward(self, pixel_values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n tokens d"]:
        features: Tensor = self.anatomy.project(_seen(self.anatomy.tower, pixel_values))
        return features.unflatten(0, (pixel_values.shape[0], -1))


def _diagonal(valid: Bool[Tensor, "b s"]) -> Bool[Tensor, "s s"]:
    """So that no row of a mask is empty; without an operation in place, which the exporter does not take."""
    here = torch.arange(valid.shape[1], device=valid.device)
    return here[:, None] == here


def _seen(tower: Any, pixels: Tensor) -> Any:
    """What leaves the tower's last layer that is run. All patches are there, so there is no mask."""
    stream = tower.embedded(tower.start({"pixel_values": pixels}, None))
    for layer in tower.module.encoder.layers[: tower.depth]:
        stream = replace(stream, x=layer(stream.x, attention_mask=None))
    return stream


def _size(tower: Any) -> tuple[int, int]:
    side = tower.module.embeddings.image_size
    return side, side
