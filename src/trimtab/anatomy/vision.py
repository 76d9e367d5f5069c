"""CLIP's vision tower as blocks. Its embeddings module reads ``patch_embedding.weight``: ours stands in its place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab.anatomy import masks
from trimtab.anatomy.attention import See, shown
from trimtab.anatomy.base import Batch, Block, dotted, under
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.vlm import Seeing, patches
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream
from trimtab.core.linear import Patches

STAGES = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.out_proj",),
    ("mlp.fc1",),
    ("mlp.fc2",),
)


class VisionEmbeddings(nn.Module):
    """[class, where there is one; patches @ W^T] + positions, the patch convolution as a linear layer on flattened
    patches."""

    def __init__(self, module: Any, name: str) -> None:
        super().__init__()
        self.image_size = module.image_size
        self.class_embedding = getattr(module, "class_embedding", None)
        self.patch_embedding = Patches.of(module.patch_embedding, f"{name}.patch_embedding")
        self.position_embedding = module.position_embedding

    def tiles(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n patches in"]:
        """The input of the patch layer. Raises BadInput for pictures of another size than the tower's."""
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            raise BadInput(
                f"pixel_values: got pictures of {tuple(pixels.shape[-2:])}; accepted: {self.image_size} x "
                f"{self.image_size}, the size this vision tower was trained with"
            )
        return self.patch_embedding.tiles(pixels.to(self.patch_embedding.linear.weight_dtype)).flatten(1, 2)

    def join(self, tiles: Float[Tensor, "n patches in"]) -> Float[Tensor, "n tokens d"]:
        found = self.patch_embedding.linear(tiles)
        if self.class_embedding is not None:
            found = torch.cat([self.class_embedding.expand(len(found), 1, -1), found], 1)
        joined: Tensor = found + self.position_embedding.weight
        return joined

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        if interpolate_pos_encoding:
            raise BadInput("interpolate_pos_encoding: got True; accepted: False, with pictures of the tower's own size")
        return self.join(self.tiles(pixel_values))


@dataclass(frozen=True)
class Tower:
    """``module``: a CLIPVisionModel, or one of its layout, at the module path ``name``; ``depth``: how many of its
    layers are run. A tower with other embeddings says which (``EMBEDDINGS``) and what comes of them (``embedded``)."""

    EMBEDDINGS: ClassVar[type[nn.Module]] = VisionEmbeddings
    name: str
    module: Any
    depth: int

    def host(self) -> None:
        """Put ``EMBEDDINGS`` in place of the library's. Doing it again does nothing."""
        if not isinstance(self.module.embeddings, self.EMBEDDINGS):
            self.module.embeddings = self.EMBEDDINGS(self.module.embeddings, dotted(self.name, "embeddings"))

    def start(self, batch: Batch, text: Stream | None) -> Seeing:
        """Flattened patches."""
        return Seeing(**patches(self.module.embeddings.tiles(batch["pixel_values"])), text=text)

    def embedded(self, stream: Seeing) -> Seeing:
        """What enters the first layer."""
        return replace(stream, **patches(self.module.pre_layrnorm(self.module.embeddings.join(stream.x))))

    def blocks(self) -> list[Block]:
        name = dotted(self.name, "embeddings")
        made = [Block(name, "vision", self._embed, under(name, (("patch_embedding",),)))]
        for index, layer in enumerate(self.module.encoder.layers[: self.depth]):
            name = dotted(self.name, f"encoder.layers.{index}")
            made.append(Block(name, "vision", partial(self._run, layer), under(name, STAGES)))
        return made

    def _embed(self, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        assert isinstance(stream, Seeing)
        return self.embedded(stream) if len(stream.x) else stream

    def _run(self, layer: Any, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        if not len(stream.x):
            return stream
        with shown(layer.self_attn, see):
            return replace(stream, x=layer(stream.x, attention_mask=masks.filled(stream.valid)))
