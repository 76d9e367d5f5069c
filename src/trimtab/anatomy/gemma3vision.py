"""Gemma 3 that sees (MedGemma too): SigLIP's tower, patches pooled and projected, tokens of a picture seeing its whole.

The projector multiplies by a bare parameter: ours stands in its place.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.anatomy.base import Anatomy, reaches
from trimtab.anatomy.decoder import Decoder
from trimtab.anatomy.gemma import Gemma, rotary_by_type
from trimtab.anatomy.paligemma import SeeingGemma
from trimtab.core.errors import BadInput
from trimtab.core.linear import Linear, Recast
from trimtab.core.weight import Dense


class Projector(Recast):
    """norm(the means over squares of patches) @ P, with P^T as the weight of a linear layer.

    P^T is laid out anew: an artifact stores it so, and a product with another layout may add in another order.
    """

    def __init__(self, module: Any, name: str) -> None:
        super().__init__()
        self.side, self.avg_pool = module.patches_per_image, module.avg_pool
        self.mm_soft_emb_norm = module.mm_soft_emb_norm
        value = module.mm_input_projection_weight.detach().T.contiguous()
        self.mm_input_projection = Linear(Dense(value), None, f"{name}.mm_input_projection")

    def forward(self, vision_outputs: Float[Tensor, "n patches e"]) -> Float[Tensor, "n tokens d"]:
        squares = vision_outputs.mT.unflatten(2, (self.side, self.side))
        pooled = self.mm_soft_emb_norm(self.avg_pool(squares).flatten(2).mT)
        return self.mm_input_projection(pooled).type_as(vision_outputs)

    def original(self) -> dict[str, Tensor]:
        return {"mm_input_projection_weight": self.mm_input_projection.w.dense().T}


class Gemma3(SeeingGemma):
    """The logits have no cap here, whatever the text model's configuration says."""

    NEEDS: ClassVar[tuple[str, ...]] = ("model.vision_tower.encoder.layers", "model.multi_modal_projector.avg_pool",
                                        "model.language_model.layers", "lm_head")  # fmt: skip
    LOAD_AS: ClassVar[str] = "Gemma3ForConditionalGeneration"
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]] = (
        "model.multi_modal_projector", (("mm_input_projection",),),
    )  # fmt: skip

    def host(self) -> None:
        inside = self.model.model
        if not isinstance(inside.multi_modal_projector, Projector):
            inside.multi_modal_projector = Projector(inside.multi_modal_projector, "model.multi_modal_projector")
        super().host()

    @cached_property
    def decoder(self) -> Decoder:
        module = self.model.model.language_model
        config = module.config
        if config.use_bidirectional_attention:
            raise BadInput("use_bidirectional_attention: got True; accepted: False (a decoder that generates text)")
        windows = [config.sliding_window if kind == "sliding_attention" else None for kind in config.layer_types]
        return Decoder("model.language_model", module, rotary_by_type(module), windows, config.layer_types, True)

    def blocks_of(self, types: Integer[Tensor, "b t"] | None) -> Integer[Tensor, "b t"] | None:
        """Neighbouring tokens of type 1 are one block: a picture, which words stand around."""
        if types is None or not bool((types == 1).any()):
            return None
        image = types == 1
        first = image & ~nn.functional.pad(image, (1, -1))
        return torch.where(image, first.cumsum(1) - 1, -1)


def gemma3(model: PreTrainedModel) -> type[Anatomy]:
    """The name stands for the model that sees, and for text models that were saved under it."""
    return Gemma3 if reaches(model, "model.vision_tower") else Gemma
