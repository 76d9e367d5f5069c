"""A vision transformer with a class token in front, as DINOv2 and InternVL have it, as blocks.

Its patch module reads ``projection.weight``: ours stands in its place. The rest of the embeddings stays the library's;
of a mask token, which belongs to pre-training, nothing is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Batch, Block, dotted
from trimtab.anatomy.vision import Run, embed_block, layer_blocks
from trimtab.anatomy.vlm import Seeing, patches
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream
from trimtab.core.linear import Patches


class PatchEmbeddings(nn.Module):
    """patches @ W^T + b, (n, c, h, w) to (n, patches, d); ``projection`` is a linear layer on flattened patches."""

    def __init__(self, module: Any, name: str) -> None:
        super().__init__()
        self.image_size, self.patch_size = tuple(module.image_size), module.patch_size
        self.projection = Patches.of(module.projection, f"{name}.projection")

    def tiles(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n patches in"]:
        """The input of the patch layer. Raises BadInput for a tower whose own pictures are not square: its table of
        positions cannot be stretched."""
        high, wide = self.image_size
        if high != wide:
            raise BadInput(f"image_size: got {high} x {wide}; accepted: a vision tower for square pictures")
        return self.projection.tiles(pixels.to(self.projection.linear.weight_dtype)).flatten(1, 2)

    def forward(self, pixel_values: Tensor) -> Float[Tensor, "n patches d"]:
        return self.projection.linear(self.tiles(pixel_values))


def passing(layer: Any, stream: Stream, see: See | None) -> Tensor:
    """A layer that passes keywords on to its attention."""
    found: Tensor = layer(stream.x, attention_mask=None, see=see)
    return found


@dataclass(frozen=True)
class VitTower:
    """``module``: the library's tower at the module path ``name`` ("" where it is the model); ``depth``: how many of
    its layers are run; ``stages``: a layer's linears; ``run``: how a layer is called."""

    name: str
    module: Any
    depth: int
    stages: Sequence[Sequence[str]]
    run: Run = passing

    def host(self) -> None:
        """Put ``PatchEmbeddings`` in place of the library's. Doing it again does nothing."""
        embeddings = self.module.embeddings
        if not isinstance(embeddings.patch_embeddings, PatchEmbeddings):
            name = dotted(self.name, "embeddings.patch_embeddings")
            embeddings.patch_embeddings = PatchEmbeddings(embeddings.patch_embeddings, name)

    def start(self, batch: Batch, text: Stream | None = None) -> Seeing:
        """Flattened patches."""
        pixels = batch["pixel_values"]
        tiles = self.module.embeddings.patch_embeddings.tiles(pixels)
        return Seeing(**patches(tiles), text=text, about={"size": tuple(pixels.shape[-2:])})

    def blocks(self) -> list[Block]:
        first = embed_block(dotted(self.name, "embeddings"), (("patch_embeddings.projection",),), self.embedded)
        layers = self.module.encoder.layer[: self.depth]
        return [first, *layer_blocks(dotted(self.name, "encoder.layer"), layers, self.stages, self.run)]

    def embedded(self, stream: Seeing) -> Seeing:
        """[class; patches], plus positions where the tower has a table of them: as the library stretches it to pictures
        of another size than the tower's own."""
        embeddings = self.module.embeddings
        found = embeddings.patch_embeddings.projection.linear(stream.x)
        found = torch.cat([embeddings.cls_token.expand(len(found), -1, -1), found], 1)
        if embeddings.position_embeddings is not None:
            found = found + embeddings.interpolate_pos_encoding(found, *stream.about["size"])
        return replace(stream, **patches(found))
