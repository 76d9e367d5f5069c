"""SigLIP: as CLIP, pictures compared with texts; pictures are pooled by attention. Or its vision tower alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from trimtab.anatomy import masks
from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Anatomy, Batch, Block, Part, under
from trimtab.anatomy.clip import Clip, Match
from trimtab.anatomy.sigliptower import POOL, SiglipTower, tower_of
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.vlm import patches
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream


class Siglip(Clip):
    """Differs from CLIP in how pictures and texts are pooled, in words that all see one another, and in the logits."""

    PARTS: ClassVar[dict[str, Part]] = {
        "vision_model": "vision",
        "vision_model.head": "projector",
        "text_model.encoder": "language",
        "text_model.embeddings.token_embedding": "embedding",
        "text_model.head": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = ("vision_model.head.attention", "text_model.encoder.layers", "text_model.head",
                                        "logit_bias")  # fmt: skip
    POOLED: ClassVar[tuple[str, ...]] = ("vision_model.head.attention.q_proj", "vision_model.head.attention.out_proj",
                                         "vision_model.head.mlp", "text_model.head")  # fmt: skip
    LOAD_AS: ClassVar[str] = "SiglipModel (both towers) or SiglipVisionModel"
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]] = ("vision_model.head", under("vision_model.head", POOL))

    @cached_property
    def tower(self) -> SiglipTower:
        return tower_of("vision_model", self.model.vision_model)

    def pooled_picture(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n e"]:
        found: Tensor = self.model.vision_model.head(self.model.vision_model.post_layernorm(x))
        return found

    def mask(self, text: Stream) -> Bool[Tensor, "b 1 t t"] | None:
        return masks.filled(text.valid)

    def head_input(self, stream: Stream) -> Tensor:
        """The last place of each text, padding or not: texts are padded on the right to one length in training."""
        x: Tensor = self.model.text_model.final_layer_norm(stream.x)
        return x[:, -1]

    def pooled_text(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        found: Tensor = self.model.text_model.head(x)
        return found

    def head(self, stream: Stream) -> Match:
        found = super().head(stream)
        return found._replace(logits_per_image=found.logits_per_image + self.model.logit_bias)


class SiglipVision(Anatomy):
    """The tower alone: ``head`` answers its pooled token or, where it has no pooling head, the last hidden state."""

    PARTS: ClassVar[dict[str, Part]] = {"embeddings": "vision", "encoder": "vision", "head": "projector"}
    NEEDS: ClassVar[tuple[str, ...]] = ("embeddings.patch_embedding", "encoder.layers", "post_layernorm")
    POOLED: ClassVar[tuple[str, ...]] = ("head.attention.q_proj", "head.attention.out_proj", "head.mlp")
    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values",)
    LOAD_AS: ClassVar[str] = "SiglipVisionModel"

    @cached_property
    def tower(self) -> SiglipTower:
        return tower_of("", self.model)

    def host(self) -> None:
        self.tower.host()
        super().host()

    def start(self, batch: Batch) -> Stream:
        if batch.get("pixel_values") is None:
            raise BadInput(f"batch: got {', '.join(sorted(batch)) or 'nothing'}; pixel_values are missing")
        return self.tower.start(batch, None)

    def build(self) -> Sequence[Block]:
        pool = [Block("head", "projector", self._pool, under("head", POOL))] if self.model.use_head else []
        return [*self.tower.blocks(), *pool]

    def _pool(self, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        return replace(stream, **patches(self.model.head(self.model.post_layernorm(stream.x))[:, None]))

    def head_input(self, stream: Stream) -> Tensor:
        x: Tensor = stream.x if self.model.use_head else self.model.post_layernorm(stream.x)
        return x

    def head(self, stream: Stream) -> Tensor:
        x = self.head_input(stream)
        return x[:, 0] if self.model.use_head else x
