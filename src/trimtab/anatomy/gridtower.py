"""The vision tower of Idefics3 and SmolVLM: SigLIP's, for pictures of any size that are padded to one.

``pixel_values`` are (rows, pictures, channels, height, width); a row with fewer pictures is filled up with pictures of
0, which are left out. ``pixel_attention_mask`` says which pixels of a picture are no padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from trimtab.anatomy.base import Batch
from trimtab.anatomy.vision import Tower
from trimtab.anatomy.vlm import Seeing, patches
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream
from trimtab.core.linear import Patches
from trimtab.core.stats import IMAGE, PADDING


class GridEmbeddings(nn.Module):
    """patches @ W^T + positions; a patch's position is its cell on a grid of ``side`` x ``side`` laid over the part of
    its picture that is no padding (NaViT, 2023)."""

    def __init__(self, module: Any, name: str) -> None:
        super().__init__()
        self.side = module.num_patches_per_side
        self.patch_embedding = Patches.of(module.patch_embedding, f"{name}.patch_embedding")
        self.position_embedding = module.position_embedding

    def tiles(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n patches in"]:
        """The input of the patch layer."""
        return self.patch_embedding.tiles(pixels.to(self.patch_embedding.linear.weight_dtype)).flatten(1, 2)

    def cells(self, there: Bool[Tensor, "n rows columns"]) -> Integer[Tensor, "n patches"]:
        """The cell of each patch that is ``there``, 0 for the others."""
        row, column = self._along(there[:, :, 0]), self._along(there[:, 0, :])
        return (self.side * row[:, :, None] + column[:, None, :]).masked_fill(~there, 0).flatten(1)

    def _along(self, there: Bool[Tensor, "n k"]) -> Integer[Tensor, "n k"]:
        """floor(side * i / count) for patch i, by float32 thresholds: the library's rounding decides at the edges."""
        place = torch.arange(there.shape[1], dtype=torch.float32, device=there.device)
        edges = torch.arange(1 / self.side, 1.0, 1 / self.side, device=there.device)
        share = place * (1.0 / there.sum(1))[:, None]
        return torch.bucketize(share.clamp(max=1.0 - 1e-6), edges, right=True)

    def join(
        self, tiles: Float[Tensor, "n patches in"], cells: Integer[Tensor, "n patches"]
    ) -> Float[Tensor, "n patches d"]:
        joined: Tensor = self.patch_embedding.linear(tiles) + self.position_embedding(cells)
        return joined

    def forward(self, pixel_values: Tensor, patch_attention_mask: Tensor) -> Tensor:
        return self.join(self.tiles(pixel_values), self.cells(patch_attention_mask))


@dataclass(frozen=True)
class GridTower(Tower):
    """``fold``: the pixel shuffle joins so many patches in each direction. ``lone``: of pictures that are all padding
    the first is taken for one."""

    EMBEDDINGS: ClassVar[type[nn.Module]] = GridEmbeddings
    fold: int = 1
    lone: bool = False

    def start(self, batch: Batch, text: Stream | None) -> Seeing:
        """Flattened patches; those that hold only padding are kept, as padding. Raises BadInput for pictures whose
        patches the pixel shuffle cannot fold."""
        pixels, mask = real(batch, self.lone)
        high, wide = self.module.embeddings.patch_embedding.size
        there = mask.unfold(1, high, high).unfold(2, wide, wide).flatten(3).any(3)
        rows, columns = there.shape[1:]
        if rows != columns or rows % self.fold:
            raise BadInput(
                f"pixel_values: got pictures of {tuple(pixels.shape[-2:])}, {rows} x {columns} patches; accepted: "
                f"square ones, of a multiple of {self.fold} patches in each direction"
            )
        flat = there.flatten(1)
        fields = patches(self.module.embeddings.tiles(pixels))
        fields |= {"valid": flat, "kinds": torch.where(flat, IMAGE, PADDING)}
        return Seeing(**fields, text=text, about={"cells": self.module.embeddings.cells(there)})

    def embedded(self, stream: Seeing) -> Seeing:
        return replace(stream, x=self.module.embeddings.join(stream.x, stream.about["cells"]))


def real(batch: Batch, lone: bool = False) -> tuple[Float[Tensor, "n c h w"], Bool[Tensor, "n h w"]]:
    """The pictures that are not 0 everywhere, and which of their pixels are no padding. Raises BadInput for other
    shapes than a processor's."""
    pixels, mask = batch["pixel_values"], batch.get("pixel_attention_mask")
    if pixels.ndim != 5:
        raise BadInput(f"pixel_values: got shape {tuple(pixels.shape)}; accepted: (rows, pictures, channels, height, "
                       "width), filled up with pictures of 0 where a row has fewer")  # fmt: skip
    shape = (*pixels.shape[:2], *pixels.shape[3:])
    if mask is None:
        mask = torch.ones(shape, dtype=torch.bool, device=pixels.device)
    if mask.shape != shape:
        raise BadInput(f"pixel_attention_mask: got shape {tuple(mask.shape)}; accepted: that of pixel_values without "
                       f"channels, {shape}")  # fmt: skip
    flat = pixels.flatten(0, 1)
    here = (flat != 0).flatten(1).any(1)
    if lone and not bool(here.any()):
        here[0] = True
    return flat[here], mask.flatten(0, 1)[here].bool()
