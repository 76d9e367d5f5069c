"""PaliGemma: SigLIP's tower, one linear projector, and Gemma (1 or 2), whose prompt is read in both directions.

``token_type_ids`` of 0 mark the prefix, of which every token sees every other; 1 an answer, which is read in order.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.anatomy.base import Batch, Part
from trimtab.anatomy.decoder import BLOCK, Decoder, rotary_of
from trimtab.anatomy.sigliptower import SiglipTower, tower_of
from trimtab.anatomy.vlm import Joined, Seeing
from trimtab.core.errors import BadInput, unknown
from trimtab.core.keep import Stream

LAYOUT = ("gemma", "gemma2")


class SeeingGemma(Joined):
    """What PaliGemma and Gemma 3 share: tower, scaled embedding, token types that say which tokens see one another.

    A family fills in, besides what ``Joined`` asks for, ``blocks_of``.
    """

    PARTS: ClassVar[dict[str, Part]] = {
        "model.vision_tower": "vision",
        "model.multi_modal_projector": "projector",
        "model.language_model.layers": "language",
        "model.language_model.embed_tokens": "embedding",
        "lm_head": "head",
    }
    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values", "token_type_ids")
    ROWS: ClassVar[tuple[str, ...]] = ("token_type_ids",)

    @abstractmethod
    def blocks_of(self, types: Integer[Tensor, "b t"] | None) -> Integer[Tensor, "b t"] | None:
        """The number of each token's block, -1 for none; None where no token has one."""

    @cached_property
    def tower(self) -> SiglipTower:
        return tower_of("model.vision_tower", self.model.model.vision_tower)

    def tables(self) -> dict[str, float]:
        return dict.fromkeys(super().tables(), self.model.config.get_text_config().hidden_size ** 0.5)

    def text(self, batch: Batch) -> Stream:
        words = super().text(batch)
        types = batch.get("token_type_ids")
        if types is not None and types.shape != words.positions.shape:
            raise BadInput(f"token_type_ids: got shape {tuple(types.shape)}; accepted: that of input_ids, "
                           f"{tuple(words.positions.shape)}")  # fmt: skip
        block = self.blocks_of(types)
        return words if block is None else replace(words, side={**words.side, BLOCK: block})

    def project(self, stream: Seeing) -> Float[Tensor, "n d"]:
        features: Tensor = self.model.model.multi_modal_projector(self.tower.module.post_layernorm(stream.x))
        return features.flatten(0, 1)


class PaliGemma(SeeingGemma):
    """Positions count from 1. Pictures enter the decoder as they leave the projector, without the words' factor."""

    NEEDS: ClassVar[tuple[str, ...]] = ("model.vision_tower.encoder.layers", "model.multi_modal_projector.linear",
                                        "model.language_model.layers", "lm_head")  # fmt: skip
    LOAD_AS: ClassVar[str] = "PaliGemmaForConditionalGeneration with a SigLIP tower"
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]] = ("model.multi_modal_projector", (("linear",),))

    @cached_property
    def decoder(self) -> Decoder:
        module = self.model.model.language_model
        config, count = module.config, len(module.layers)
        if config.model_type not in LAYOUT:
            raise unknown("model.language_model: decoder", config.model_type, LAYOUT)
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * count
        windows = [config.sliding_window if kind == "sliding_attention" else None for kind in kinds]
        return Decoder("model.language_model", module, rotary_of(module), windows, ["all"] * count)

    def blocks_of(self, types: Integer[Tensor, "b t"] | None) -> Integer[Tensor, "b t"] | None:
        """The prefix is one block. Raises BadInput without types: the library then reads a prompt in both directions
        or in one, depending on whether there is padding."""
        if types is None:
            raise BadInput("token_type_ids: missing; PaliGemma reads a prompt (0) in both directions and an answer (1) "
                           "in order. Its processor gives them")  # fmt: skip
        return torch.where(types == 0, 0, -1)

    def text(self, batch: Batch) -> Stream:
        words = super().text(batch)
        return words if batch.get("position_ids") is not None else replace(words, positions=words.positions + 1)

    def head(self, stream: Stream) -> Tensor:
        logits, cap = super().head(stream), getattr(self.decoder.module.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap
