"""CLIP: a vision tower and a text tower that meet in one space; the head compares every picture with every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from trimtab.anatomy import masks
from trimtab.anatomy.attention import See, shown
from trimtab.anatomy.base import Anatomy, Batch, Block, Part, placed, under
from trimtab.anatomy.decoder import ids_and_valid
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.vision import STAGES, Tower
from trimtab.anatomy.vlm import Seeing
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream
from trimtab.core.stats import PADDING, TEXT


@dataclass(frozen=True)
class Paired(Stream):
    """The texts on their way through their tower, and the ``pictures`` (n, d) that are already projected."""

    pictures: Tensor | None = None


class Match(NamedTuple):
    """``logits_per_image`` (pictures, texts) and the embeddings, of length 1, from which they come."""

    logits_per_image: Float[Tensor, "n b"]
    image_embeds: Float[Tensor, "n d"]
    text_embeds: Float[Tensor, "b d"]


class Clip(Anatomy):
    """The block between the towers is ``visual_projection``; ``text_projection`` belongs to the head."""

    PARTS: ClassVar[dict[str, Part]] = {
        "vision_model": "vision",
        "visual_projection": "projector",
        "text_model.encoder": "language",
        "text_model.embeddings.token_embedding": "embedding",
        "text_projection": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = ("vision_model.encoder", "text_model.encoder", "text_projection", "logit_scale")
    POOLED: ClassVar[tuple[str, ...]] = ("visual_projection", "text_projection")
    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values",)
    LOAD_AS: ClassVar[str] = "CLIPModel (both towers)"
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]] = ("visual_projection", (("visual_projection",),))

    @cached_property
    def tower(self) -> Tower:
        module = self.model.vision_model
        return Tower("vision_model", module, len(module.encoder.layers))

    def host(self) -> None:
        self.tower.host()
        super().host()

    def start(self, batch: Batch) -> Stream:
        ids, valid = ids_and_valid(batch)
        if batch.get("pixel_values") is None:
            kind = self.model.config.model_type
            raise BadInput(f"batch: pixel_values are missing; {kind!r} compares pictures with texts")
        positions = batch.get("position_ids")
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)
        positions = positions.expand_as(ids)
        x = self.model.text_model.embeddings(input_ids=ids, position_ids=positions)
        text = replace(placed(x, torch.where(valid, TEXT, PADDING), positions, valid), side={"ids": ids})
        return self.tower.start(batch, text)

    def build(self) -> Sequence[Block]:
        name, stages = self.JOIN
        made = [*self.tower.blocks(), Block(name, "projector", self._join, stages)]
        for index, layer in enumerate(self.model.text_model.encoder.layers):
            name = f"text_model.encoder.layers.{index}"
            made.append(Block(name, "language", partial(self._run, layer), under(name, STAGES)))
        return made

    def pooled_picture(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n e"]:
        """A picture's place in the common space, from its patches behind the last layer."""
        found: Tensor = self.model.visual_projection(self.model.vision_model.post_layernorm(x[:, 0]))
        return found

    def pooled_text(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        """A text's place in the common space, from the head's input."""
        found: Tensor = self.model.text_projection(x)
        return found

    def mask(self, text: Stream) -> Bool[Tensor, "b 1 t t"] | None:
        """Which words see which."""
        return masks.causal(text.positions, text.positions, text.valid, None)

    def _run(self, layer: Any, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        with shown(layer.self_attn, see):
            return replace(stream, x=layer(stream.x, attention_mask=self.mask(stream)))

    def _join(self, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        assert isinstance(stream, Seeing)
        assert stream.text is not None
        text, pictures = stream.text, self.pooled_picture(stream.x)
        return Paired(text.x, text.positions, text.kinds, text.valid, text.source, text.side, pictures)

    def head_input(self, stream: Stream) -> Tensor:
        """The text's state at its end token: the first one, or the highest id where the old configuration says 2."""
        ids, end = stream.side["ids"], self.model.config.text_config.eos_token_id
        at = ids.argmax(1) if end == 2 else (ids == end).int().argmax(1)
        x: Tensor = self.model.text_model.final_layer_norm(stream.x)
        return x[torch.arange(x.shape[0], device=x.device), at]

    def head(self, stream: Stream) -> Match:
        assert isinstance(stream, Paired)
        assert stream.pictures is not None
        texts = _unit(self.pooled_text(self.head_input(stream)))
        pictures = _unit(stream.pictures)
        return Match((texts @ pictures.T * self.model.logit_scale.exp()).T, pictures, texts)


def _unit(x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    return nn.functional.normalize(x, dim=-1, eps=0.0)
