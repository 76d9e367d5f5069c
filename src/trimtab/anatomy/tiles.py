"""Models that show a picture to their decoder as an overview and tiles: LLaVA-NeXT and LLaVA-OneVision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.anatomy.base import Batch
from trimtab.anatomy.llava import Llava
from trimtab.anatomy.views import Size, View, pack, view
from trimtab.anatomy.vlm import Seeing
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream


class Tiled(Llava):
    """A family fills in, besides what LLaVA's do: ``views``. ``pixel_values`` are (pictures, tiles, c, h, w); those
    with fewer tiles than others are filled up. ``image_sizes`` (pictures, 2): heights and widths as they came."""

    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values", "image_sizes")
    EVEN: ClassVar[bool] = False
    PACKED: ClassVar[bool] = True

    def views(self, batch: Batch) -> list[View]:
        """What the decoder is shown of each picture."""
        return [self.view(size) for size in sizes_of(batch)]

    def view(self, size: Size, most: int | None = None) -> View:
        """How a picture is shown, in the model's own grids."""
        config, vision = self.model.config, self.model.config.vision_config
        return view(size, config.image_grid_pinpoints, vision.image_size, vision.image_size // vision.patch_size, most)

    def start(self, batch: Batch) -> Stream:
        if batch.get("pixel_values") is None:
            return super().start(batch)
        views = self.views(batch)
        tiles = torch.cat(tiles_of_each(batch, views))
        return replace(self.tower.start({"pixel_values": tiles}, self.text(batch)), about={"views": views})

    def tokens(self, batch: Batch) -> list[int]:
        return [shown.tokens for shown in self.views(batch)]

    def pictures(self, batch: Batch) -> list[Float[Tensor, "channels pixels"]]:
        if batch.get("pixel_values") is None:
            return []
        return [tiles.transpose(0, 1).flatten(1) for tiles in tiles_of_each(batch, self.views(batch))]

    def project(self, stream: Seeing) -> Float[Tensor, "n d"]:
        config, model, views = self.model.config, self.model.model, stream.about["views"]
        x = stream.x[:, 1:] if config.vision_feature_select_strategy == "default" else stream.x
        if x.shape[1] != views[0].side ** 2:
            raise BadInput(
                f"vision_feature_select_strategy: got {config.vision_feature_select_strategy!r}, which leaves "
                f"{x.shape[1]} features of a tile; accepted: the one that leaves its {views[0].side ** 2} patches"
            )
        tiles = model.multi_modal_projector(x).split([shown.tiles for shown in views])
        packed = [pack(of_one, shown, model.image_newline) for of_one, shown in zip(tiles, views, strict=True)]
        return torch.cat(packed)


def sizes_of(batch: Batch) -> list[Size]:
    """Height and width of each picture as it came. Raises BadInput where the processor's inputs do not fit."""
    pixels, sizes = batch["pixel_values"], batch.get("image_sizes")
    if sizes is None or pixels.ndim != 5 or len(sizes) != len(pixels):
        raise BadInput(
            f"pixel_values: got shape {tuple(pixels.shape)} and image_sizes "
            f"{'none' if sizes is None else tuple(sizes.shape)}; accepted: (pictures, tiles, channels, height, width) "
            "and (pictures, 2), as the processor gives them"
        )
    return [(int(high), int(wide)) for high, wide in sizes.tolist()]


def tiles_of_each(batch: Batch, views: Sequence[View]) -> list[Float[Tensor, "tiles c h w"]]:
    """The tiles of each picture, without those that only fill up. Raises BadInput where some are missing."""
    pixels = batch["pixel_values"]
    most = max(shown.tiles for shown in views)
    if pixels.shape[1] < most:
        raise BadInput(f"pixel_values: got {pixels.shape[1]} tiles a picture; image_sizes ask for {most}")
    return [of_one[: shown.tiles] for of_one, shown in zip(pixels, views, strict=True)]
