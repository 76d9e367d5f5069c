"""LLaVA: a CLIP vision tower, a two-layer projector, and a Llama-like decoder that reads pictures as tokens."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from trimtab.anatomy.base import Part
from trimtab.anatomy.decoder import Decoder
from trimtab.anatomy.llama import decoder_of
from trimtab.anatomy.vision import Tower, depth_of
from trimtab.anatomy.vlm import Eyes, Joined, Seeing


class Llava(Joined):
    """The projector reads the hidden states of layer ``vision_feature_layer``, without CLS by the strategy "default".

    Vision layers behind that one do nothing in the library either: they are no blocks, but their linears are listed
    (``idle``).
    """

    PARTS: ClassVar[dict[str, Part]] = {
        "model.vision_tower": "vision",
        "model.multi_modal_projector": "projector",
        "model.language_model.layers": "language",
        "model.language_model.embed_tokens": "embedding",
        "lm_head": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = (
        "model.vision_tower.embeddings.class_embedding",
        "model.vision_tower.pre_layrnorm",
        "model.vision_tower.encoder.layers",
        "model.multi_modal_projector.linear_2",
        "model.language_model.layers",
        "lm_head",
    )
    LOAD_AS: ClassVar[str] = "LlavaForConditionalGeneration with a CLIP tower and a Llama-like decoder"
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]] = (
        "model.multi_modal_projector", (("linear_1",), ("linear_2",)),
    )  # fmt: skip

    @cached_property
    def decoder(self) -> Decoder:
        return decoder_of("model.language_model", self.model.model.language_model)

    @cached_property
    def tower(self) -> Eyes:
        module = self.model.model.vision_tower
        depth = depth_of(self.model.config.vision_feature_layer, len(module.encoder.layers))
        return Tower("model.vision_tower", module, depth)

    def project(self, stream: Seeing) -> Float[Tensor, "n d"]:
        features = stream.x[:, 1:] if self.model.config.vision_feature_select_strategy == "default" else stream.x
        projected: Tensor = self.model.model.multi_modal_projector(features)
        return projected.flatten(0, 1)
