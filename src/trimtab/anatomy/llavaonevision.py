"""LLaVA-OneVision: a SigLIP tower; a picture by itself is shown in tiles, several of one prompt by overviews alone.

The patches of a large picture are resized to those of N tiles, the N of ``vision_aspect_ratio`` "anyres_max_N".
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import groupby
from typing import ClassVar

import torch

from trimtab.anatomy.base import Batch
from trimtab.anatomy.sigliptower import SiglipTower
from trimtab.anatomy.tiles import Tiled, sizes_of
from trimtab.anatomy.views import View, overview
from trimtab.anatomy.vision import depth_of
from trimtab.core.errors import BadInput, unknown

ASPECT = "anyres_max_"


class LlavaOnevision(Tiled):
    """``batch_num_images``: how many pictures of each prompt were processed together; without it each by itself."""

    NEEDS: ClassVar[tuple[str, ...]] = (
        "model.vision_tower.embeddings.patch_embedding",
        "model.vision_tower.encoder.layers",
        "model.multi_modal_projector.linear_2",
        "model.image_newline",
        "model.language_model.layers",
        "lm_head",
    )
    LOAD_AS: ClassVar[str] = "LlavaOnevisionForConditionalGeneration with a SigLIP tower and a Llama-like decoder"
    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values", "image_sizes", "batch_num_images")

    @cached_property
    def tower(self) -> SiglipTower:
        module, config = self.model.model.vision_tower, self.model.config
        if config.vision_config.model_type != "siglip_vision_model":
            raise unknown("model.vision_tower", config.vision_config.model_type, ["siglip_vision_model"])
        depth = depth_of(config.vision_feature_layer, len(module.encoder.layers))
        return SiglipTower("model.vision_tower", module, depth)

    @property
    def most(self) -> int:
        """Of how many tiles the patches of a picture are at most. Raises BadInput for another ``vision_aspect_ratio``
        than "anyres_max_N"."""
        aspect = self.model.config.vision_aspect_ratio
        number = aspect.removeprefix(ASPECT)
        if not aspect.startswith(ASPECT) or not number.isdecimal() or not int(number):
            raise BadInput(f"vision_aspect_ratio: got {aspect!r}; accepted: {ASPECT}N, as {ASPECT}9")
        return int(number)

    def views(self, batch: Batch) -> list[View]:
        sizes, most = sizes_of(batch), self.most
        single = alone(batch, len(sizes))
        whole = [self.view(size, most) for size in sizes]
        return [shown if by_itself else overview(shown.side) for shown, by_itself in zip(whole, single, strict=True)]

    def pick(self, batch: Batch, order: list[int]) -> Batch:
        if batch.get("batch_num_images") is None:
            return super().pick(batch, order)
        single = alone(batch, len(batch["pixel_values"]))
        numbers = torch.tensor(together(single[index] for index in order))
        others = {name: value for name, value in batch.items() if name != "batch_num_images"}
        return super().pick(others, order) | {"batch_num_images": numbers}


def alone(batch: Batch, count: int) -> list[bool]:
    """For each of ``count`` pictures, whether its prompt has no other. Raises BadInput where the numbers differ."""
    numbers = batch.get("batch_num_images")
    if numbers is None:
        return [True] * count
    found = [number == 1 for number in numbers.tolist() for _ in range(number)]
    if len(found) != count:
        raise BadInput(f"batch_num_images: got {len(found)} pictures in all; pixel_values hold {count}")
    return found


def together(single: Iterable[bool]) -> list[int]:
    """Numbers of pictures from which ``alone`` reads ``single`` again: runs of others stay as large as they are."""
    runs = [(by_itself, len(list(run))) for by_itself, run in groupby(single)]
    return [number for by_itself, length in runs for number in ([1] * length if by_itself else [length])]
