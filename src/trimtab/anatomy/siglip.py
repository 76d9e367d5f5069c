"""SigLIP's vision tower as blocks: CLIP's without a class token, and without a norm in front of its layers.

``post_layernorm`` belongs to the tower's last hidden state; models that read hidden states by layer go without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from trimtab.anatomy.base import Batch, Block
from trimtab.anatomy.vision import STAGES, embed_block, layer_blocks, tiles_of
from trimtab.anatomy.vlm import Seeing, patches
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream
from trimtab.core.linear import Patches


class SiglipEmbeddings(nn.Module):
    """patches @ W^T + b + positions, with the patch convolution as a linear layer on flattened patches."""

    def __init__(self, module: Any, name: str) -> None:
        super().__init__()
        self.image_size = module.image_size
        self.patch_embedding = Patches.of(module.patch_embedding, f"{name}.patch_embedding")
        self.position_embedding = module.position_embedding

    def tiles(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n patches in"]:
        """The input of the patch layer. Raises BadInput for pictures of another size than the tower's."""
        return tiles_of(self.patch_embedding, pixels, (self.image_size, self.image_size))

    def join(self, tiles: Float[Tensor, "n patches in"]) -> Float[Tensor, "n patches d"]:
        joined: Tensor = self.patch_embedding.linear(tiles) + self.position_embedding.weight
        return joined

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        if interpolate_pos_encoding:
            raise BadInput("interpolate_pos_encoding: got True; accepted: False, with pictures of the tower's own size")
        return self.join(self.tiles(pixel_values))


@dataclass(frozen=True)
class SiglipTower:
    """``module``: a SiglipVisionModel at the module path ``name``; ``depth``: how many of its layers are run."""

    name: str
    module: Any
    depth: int

    def host(self) -> None:
        """Put ``SiglipEmbeddings`` in place of the library's. Doing it again does nothing."""
        if not isinstance(self.module.embeddings, SiglipEmbeddings):
            self.module.embeddings = SiglipEmbeddings(self.module.embeddings, f"{self.name}.embeddings")

    def start(self, batch: Batch, text: Stream) -> Seeing:
        """Flattened patches."""
        return Seeing(**patches(self.module.embeddings.tiles(batch["pixel_values"])), text=text)

    def blocks(self) -> list[Block]:
        first = embed_block(f"{self.name}.embeddings", (("patch_embedding",),), self.module.embeddings.join)
        layers = self.module.encoder.layers[: self.depth]
        return [first, *layer_blocks(f"{self.name}.encoder.layers", layers, STAGES)]
