"""Idefics3 and SmolVLM: a SigLIP-like tower, a pixel shuffle, a Llama-like decoder that reads pictures as tokens."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from trimtab.anatomy.base import Batch, Part
from trimtab.anatomy.decoder import Decoder
from trimtab.anatomy.gridtower import GridTower, real
from trimtab.anatomy.llama import decoder_of
from trimtab.anatomy.vlm import Joined, Seeing


class Idefics3(Joined):
    """The connector folds neighbouring patches into one token before it projects."""

    PARTS: ClassVar[dict[str, Part]] = {
        "model.vision_model": "vision",
        "model.connector": "projector",
        "model.text_model.layers": "language",
        "model.text_model.embed_tokens": "embedding",
        "lm_head": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = ("model.vision_model.encoder.layers", "model.connector.modality_projection.proj",
                                        "model.text_model.layers", "lm_head")  # fmt: skip
    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values", "pixel_attention_mask")
    ROWS: ClassVar[tuple[str, ...]] = INPUTS
    LOAD_AS: ClassVar[str] = "Idefics3ForConditionalGeneration with a Llama-like decoder"
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]] = ("model.connector", (("modality_projection.proj",),))
    LONE: ClassVar[bool] = False

    @cached_property
    def decoder(self) -> Decoder:
        return decoder_of("model.text_model", self.model.model.text_model)

    @cached_property
    def tower(self) -> GridTower:
        module, fold = self.model.model.vision_model, self.model.config.scale_factor
        return GridTower("model.vision_model", module, len(module.encoder.layers), fold, self.LONE)

    def project(self, stream: Seeing) -> Float[Tensor, "n d"]:
        if stream.text is not None and not len(stream.x):  # all pictures were padding
            return stream.text.x[:0, 0]
        features: Tensor = self.model.model.connector(self.tower.module.post_layernorm(stream.x))
        return features.flatten(0, 1)

    def pictures(self, batch: Batch) -> list[Float[Tensor, "channels pixels"]]:
        return [] if batch.get("pixel_values") is None else list(real(batch, self.LONE)[0].flatten(2))


class SmolVLM(Idefics3):
    """Idefics3's layout, smaller."""

    LOAD_AS: ClassVar[str] = "SmolVLMForConditionalGeneration with a Llama-like decoder"
    LONE: ClassVar[bool] = True
