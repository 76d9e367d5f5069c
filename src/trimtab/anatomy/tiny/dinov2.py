"""Tiny DINOv2 towers, with the plain and the gated MLP."""

from __future__ import annotations

from functools import partial

from transformers import Dinov2Config, Dinov2Model, PreTrainedModel

from trimtab.anatomy.tiny.base import Batch, Padding, Tiny
from trimtab.anatomy.tiny.clip import pictures


def dinov2(gated: bool = False) -> PreTrainedModel:
    return Dinov2Model(
        Dinov2Config(
            hidden_size=24, num_hidden_layers=3, num_attention_heads=3, mlp_ratio=4, image_size=12, patch_size=4,
            use_swiglu_ffn=gated, drop_path_rate=0.2,
        )
    )  # fmt: skip


def dinov2_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    return {"pixel_values": pictures(3)}


MODELS = {
    "dinov2": Tiny(dinov2, dinov2_batch, answer="last_hidden_state", decodes=False, positions=False),
    "dinov2-gated": Tiny(
        partial(dinov2, gated=True), dinov2_batch, answer="last_hidden_state", decodes=False, positions=False
    ),
}
