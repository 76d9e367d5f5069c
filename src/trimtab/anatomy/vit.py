"""A vision transformer with a class token in front, as DINOv2 and InternVL have it, as blocks.

Its patch module reads ``projection.weight``: ours stands in its place. The rest of the embeddings stays the library's;
of a mask token, which belongs to pre-training, nothing is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab.anatomy.base import Batch, Block
from trimtab.anatomy.vision import Run, attending, embed_block, layer_blocks, tiles_of
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
        """The input of the patch layer. Raises BadInput for pictures of another size than the tower's, to which the
        table of positions would have to be stretched, and for a tower whose pictures are not square."""
        high, wide = self.image_size
        if high != wide:
            raise BadInput(f"image_size: got {high} x {wide}; accepted: a vision tower for square pictures")
        return tiles_of(self.projection, pixels, self.image_size)

    def forward(self, pixel_values: Tensor) -> Float[Tensor, "n patches d"]:
        tiles = self.projection.tiles(pixel_values.to(self.projection.linear.weight_dtype))
        return self.projection.linear(tiles.flatten(1, 2))


@dataclass(frozen=True)
class VitTower:
    """``module``: the library's tower at the module path ``name`` ("" where it is the model); ``depth``: how many of
    its layers are run; ``stages``: a layer's linears; ``run``: how a layer is called."""

    name: str
    module: Any
    depth: int
    stages: Sequence[Sequence[str]]
    run: Run = attending

    def path(self, name: str) -> str:
        """The module path of a part of the tower."""
        return f"{self.name}.{name}" if self.name else name

    def host(self) -> None:
        """Put ``PatchEmbeddings`` in place of the library's. Doing it again does nothing."""
        embeddings = self.module.embeddings
        if not isinstance(embeddings.patch_embeddings, PatchEmbeddings):
            name = self.path("embeddings.patch_embeddings")
            embeddings.patch_embeddings = PatchEmbeddings(embeddings.patch_embeddings, name)

    def start(self, batch: Batch, text: Stream | None = None) -> Seeing:
        """Flattened patches."""
        tiles = self.module.embeddings.patch_embeddings.tiles(batch["pixel_values"])
        return Seeing(**patches(tiles), text=text)

    def blocks(self) -> list[Block]:
        first = embed_block(self.path("embeddings"), (("patch_embeddings.projection",),), self._embed)
        layers = self.module.encoder.layer[: self.depth]
        return [first, *layer_blocks(self.path("encoder.layer"), layers, self.stages, self.run)]

    def _embed(self, tiles: Float[Tensor, "n patches in"]) -> Float[Tensor, "n tokens d"]:
        """[class; patches], plus positions where the tower has a table of them."""
        embeddings = self.module.embeddings
        found = embeddings.patch_embeddings.projection.linear(tiles)
        found = torch.cat([embeddings.cls_token.expand(len(found), -1, -1), found], 1)
        return found if embeddings.position_embeddings is None else found + embeddings.position_embeddings
