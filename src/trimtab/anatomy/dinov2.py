"""DINOv2: a vision tower by itself, without words and without a head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from trimtab.anatomy.base import Anatomy, Batch, Block, Part
from trimtab.anatomy.vit import VitTower
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream

ATTENTION = (("attention.q_proj", "attention.k_proj", "attention.v_proj"), ("attention.o_proj",))
PLAIN = (("mlp.fc1",), ("mlp.fc2",))
GATED = (("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))


class Dinov2(Anatomy):
    """No decoder layers: ``layers()`` is empty and ``embed`` runs everything. ``head`` answers the last hidden state
    behind the final norm; layer scale is inside the library's layers."""

    PARTS: ClassVar[dict[str, Part]] = {"embeddings": "vision", "encoder": "vision"}
    NEEDS: ClassVar[tuple[str, ...]] = ("embeddings.patch_embeddings.projection", "encoder.layer", "layernorm")
    LOAD_AS: ClassVar[str] = "Dinov2Model (the tower without a task head)"
    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values",)

    @cached_property
    def tower(self) -> VitTower:
        mlp = GATED if self.model.config.use_swiglu_ffn else PLAIN
        return VitTower("", self.model, len(self.model.encoder.layer), (*ATTENTION, *mlp))

    def host(self) -> None:
        self.tower.host()
        super().host()

    def start(self, batch: Batch) -> Stream:
        given = sorted(name for name, value in batch.items() if value is not None)
        if given != ["pixel_values"]:
            raise BadInput(f"batch: got {', '.join(given) or 'nothing'}; accepted for DINOv2: pixel_values alone")
        return self.tower.start(batch)

    def build(self) -> Sequence[Block]:
        return self.tower.blocks()

    def head_input(self, stream: Stream) -> Tensor:
        x: Tensor = self.model.layernorm(stream.x)
        return x

    def head(self, stream: Stream) -> Tensor:
        return self.head_input(stream)
