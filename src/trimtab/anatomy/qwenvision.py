"""The vision towers of Qwen-VL as blocks.

The patches of all pictures are packed into one row, (1, patches, d), in the processor's order, where the merge x merge
patches that become one token lie together. No picture sees another, nor a frame of one picture another frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.vision_utils import (
    get_vision_cu_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Batch, Block, under
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.vlm import Seeing, patches
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream
from trimtab.core.linear import Linear, Recast
from trimtab.core.weight import Dense

COS, SIN = "cos", "sin"  # in Stream.side: (1, patches, size of a head), the rotary angles of a patch's row and column
# in Seeing.about: the pictures' sizes in patches, (n, 3); where those who see one another begin, and the last ends;
# what was taken on the way, then the features made of it
SIZES, FRAMES, WINDOWS, TAKEN = "sizes", "frames", "windows", "taken"


class PatchEmbed(Recast):
    """patches @ W^T (+ bias): the library's convolution, whose kernel is its stride, on patches that the processor has
    flattened already (channel, frame, row, column)."""

    def __init__(self, convolution: Any, name: str) -> None:
        super().__init__()
        self.shape = convolution.weight.shape
        value = nn.Parameter(convolution.weight.detach().flatten(1), requires_grad=False)
        self.proj = Linear(Dense(value), convolution.bias, name)

    def forward(self, x: Float[Tensor, "*b patches in"]) -> Float[Tensor, "*b patches d"]:
        y: Tensor = self.proj(x.to(self.proj.weight_dtype))
        return y

    def original(self) -> dict[str, Tensor]:
        bias = {} if self.proj.bias is None else {"proj.bias": self.proj.bias}
        return {"proj.weight": self.proj.w.dense().reshape(self.shape), **bias}


@dataclass(frozen=True)
class Tower:
    """Qwen2-VL's. ``module``: the library's, at the module path ``name``; ``stages``: those of one of its layers."""

    name: str
    module: Any
    stages: tuple[tuple[str, ...], ...]

    def host(self) -> None:
        """Put ``PatchEmbed`` in place of the library's. Doing it again does nothing."""
        if not isinstance(self.module.patch_embed, PatchEmbed):
            self.module.patch_embed = PatchEmbed(self.module.patch_embed.proj, f"{self.name}.patch_embed.proj")

    def start(self, batch: Batch, text: Stream) -> Seeing:
        """Flattened patches. Raises BadInput without the pictures' sizes, or for those of other pictures."""
        sizes, pixels = batch.get("image_grid_thw"), batch["pixel_values"]
        if sizes is None:
            raise BadInput("image_grid_thw: got None beside pixel_values; accepted: each picture's size in patches")
        count = int(sizes.prod(1).sum())
        if count != len(pixels):
            raise BadInput(
                f"pixel_values: got {len(pixels)} patches; accepted: {count}, as image_grid_thw says, for "
                f"{count // self.module.spatial_merge_size**2} image tokens"
            )
        x = pixels.to(self.module.patch_embed.proj.weight_dtype)
        cos, sin = self.module.rotary_pos_emb(x, get_vision_position_ids(sizes, self.module.spatial_merge_size))
        about = {SIZES: sizes, FRAMES: get_vision_cu_seqlens(sizes), TAKEN: ()}
        return Seeing(**patches(x[None]), side={COS: cos[None], SIN: sin[None]}, text=text, about=about)

    def blocks(self) -> list[Block]:
        name = f"{self.name}.patch_embed"
        made = [Block(name, "vision", self._embed, under(name, (("proj",),)))]
        for index, layer in enumerate(self.module.blocks):
            name = f"{self.name}.blocks.{index}"
            made.append(Block(name, "vision", partial(self._run, index, layer), under(name, self.stages)))
        return made

    def embedded(self, stream: Seeing) -> Float[Tensor, "1 patches d"]:
        """What enters the first layer."""
        x: Tensor = self.module.patch_embed(stream.x)
        return x

    def spans(self, index: int) -> str:
        """By what the patches that see one another in layer ``index`` are told apart."""
        return FRAMES

    def _embed(self, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        if not len(stream.x):
            return stream
        assert isinstance(stream, Seeing)
        return replace(stream, x=self.embedded(stream))

    def _run(self, index: int, layer: nn.Module, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        if not len(stream.x):
            return stream
        assert isinstance(stream, Seeing)
        turned, ends = (stream.side[COS][0], stream.side[SIN][0]), stream.about[self.spans(index)]
        return replace(stream, x=layer(stream.x[0], cu_seqlens=ends, position_embeddings=turned, see=see)[None])


@dataclass(frozen=True)
class Windowed(Tower):
    """Qwen2.5-VL's: patches stand window by window, and only some layers look further (2025, arXiv:2502.13923)."""

    def start(self, batch: Batch, text: Stream) -> Seeing:
        stream, merge = super().start(batch, text), self.module.spatial_merge_size
        size, patch = self.module.window_size, self.module.patch_size
        tokens, ends = get_vision_window_index(stream.about[SIZES], merge, size, patch)
        order = (tokens[:, None] * merge**2 + torch.arange(merge**2)).flatten().to(stream.x.device)[None]
        found = stream.gather(order, torch.ones_like(order, dtype=torch.bool))
        assert isinstance(found, Seeing)
        return replace(found, about={**stream.about, WINDOWS: ends})

    def spans(self, index: int) -> str:
        return FRAMES if index in self.module.fullatt_block_indexes else WINDOWS


@dataclass(frozen=True)
class Deep(Tower):
    """Qwen3-VL's: a table of places resampled to each picture, and features of several depths (DeepStack, 2024,
    arXiv:2406.04334), each with a merger of its own, which run as blocks of the projector behind all layers."""

    def depths(self) -> list[int]:
        """Layers whose output is taken, in running order."""
        return [index for index in range(len(self.module.blocks)) if index in self.module.deepstack_visual_indexes]

    def blocks(self) -> list[Block]:
        made = super().blocks()
        for place, index in enumerate(self.depths()):
            number = list(self.module.deepstack_visual_indexes).index(index)
            name = f"{self.name}.deepstack_merger_list.{number}"
            merger = self.module.deepstack_merger_list[number]
            stages = under(name, (("linear_fc1",), ("linear_fc2",)))
            made.append(Block(name, "projector", partial(self._merge, place, merger), stages))
        return made

    def embedded(self, stream: Seeing) -> Float[Tensor, "1 patches d"]:
        module, x = self.module, super().embedded(stream)
        index, share = get_vision_interpolation_indices_and_weights(
            stream.about[SIZES], module.num_grid_per_side, mode=module.interpolation_mode,
            align_corners=module.interpolation_align_corners, spatial_merge_size=module.spatial_merge_size,
        )  # fmt: skip
        return x + (module.pos_embed(index) * share[..., None]).sum(1).to(x.dtype)

    def _run(self, index: int, layer: nn.Module, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        stream = super()._run(index, layer, stream, slots, see)
        if not len(stream.x) or index not in self.depths():
            return stream
        assert isinstance(stream, Seeing)
        return replace(stream, about={**stream.about, TAKEN: (*stream.about[TAKEN], stream.x[0])})

    def _merge(self, place: int, merger: nn.Module, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        if not len(stream.x):
            return stream
        assert isinstance(stream, Seeing)
        taken = list(stream.about[TAKEN])
        taken[place] = merger(taken[place])
        return replace(stream, about={**stream.about, TAKEN: tuple(taken)})
