"""LLaVA: a CLIP vision tower, a two-layer projector, and a Llama-like decoder that reads pictures as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Integer
from torch import Tensor

from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Anatomy, Batch, Block, Part, under
from trimtab.anatomy.decoder import Decoder
from trimtab.anatomy.llama import decoder_of
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.vision import Seeing, Tower
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream
from trimtab.core.stats import IMAGE


class Llava(Anatomy):
    """The projector reads the hidden states of layer ``vision_feature_layer``, without CLS by the strategy "default".

    Vision layers behind that one do nothing in the library either: they are no blocks, but their linears are listed
    (``idle``). Placeholders without pictures are words like any other, as in the library.
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
    decodes: ClassVar[bool] = True

    @cached_property
    def decoder(self) -> Decoder:
        return decoder_of("model.language_model", self.model.model.language_model)

    @cached_property
    def tower(self) -> Tower:
        chosen, module = self.model.config.vision_feature_layer, self.model.model.vision_tower
        count = len(module.encoder.layers)
        if not isinstance(chosen, int) or not -count - 1 <= chosen <= count:
            raise BadInput(f"vision_feature_layer: got {chosen}; accepted: one layer from {-count - 1} to {count}")
        return Tower("model.vision_tower", module, chosen if chosen >= 0 else count + 1 + chosen)

    def host(self) -> None:
        self.tower.host()
        super().host()

    def start(self, batch: Batch) -> Stream:
        text, pixels = self.decoder.start(batch), batch.get("pixel_values")
        if pixels is not None:
            placeholder = batch["input_ids"] == self.model.config.image_token_id
            text = replace(
                text,
                kinds=torch.where(placeholder & text.valid, IMAGE, text.kinds),
                side={**text.side, "placeholder": placeholder},
            )
        return self.tower.start(pixels, text)

    def words(self, ids: Integer[Tensor, "b t"], positions: Tensor, valid: Tensor) -> Stream:
        return self.decoder.words(ids, positions, valid)

    def build(self) -> Sequence[Block]:
        name = "model.multi_modal_projector"
        join = Block(name, "projector", self._join, under(name, (("linear_1",), ("linear_2",))))
        return [*self.tower.blocks(), join, *self.decoder.blocks()]

    def _join(self, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        assert isinstance(stream, Seeing)
        assert stream.text is not None
        text = stream.text
        if "placeholder" not in text.side:
            return text
        side = dict(text.side)
        where = side.pop("placeholder")
        features = stream.x[:, 1:] if self.model.config.vision_feature_select_strategy == "default" else stream.x
        if int(where.sum()) != features.shape[0] * features.shape[1]:
            raise BadInput(
                f"pixel_values: got {len(features)} pictures of {features.shape[1]} tokens each, but input_ids hold "
                f"{int(where.sum())} image tokens; the processor writes one for each (num_additional_image_tokens)"
            )
        projected = self.model.model.multi_modal_projector(features).to(text.x.dtype)
        return replace(text, x=text.x.masked_scatter(where[..., None], projected), side=side)

    def head_input(self, stream: Stream) -> Tensor:
        x: Tensor = self.decoder.module.norm(stream.x)
        return x

    def head(self, stream: Stream) -> Tensor:
        logits: Tensor = self.model.lm_head(self.head_input(stream))
        return logits
