"""CLIP's vision tower as blocks, and what other towers share with it.

Its embeddings module reads ``patch_embedding.weight``: ours stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
Run = Callable[[Any, Stream, "See | None"], Tensor]


def tiles_of(layer: Patches, pixels: Float[Tensor, "n c h w"], size: Sequence[int]) -> Float[Tensor, "n patches in"]:
    """The input of a tower's patch layer. Raises BadInput for pictures of another size (height, width) than its own."""
    if tuple(pixels.shape[-2:]) != tuple(size):
        raise BadInput(
            f"pixel_values: got pictures of {tuple(pixels.shape[-2:])}; accepted: {size[0]} x {size[1]}, the size this "
            "vision tower was trained with"
        )
    return layer.tiles(pixels.to(layer.linear.weight_dtype)).flatten(1, 2)


def attending(layer: Any, stream: Stream, see: See | None) -> Tensor:
    """A layer whose attention takes a mask (every valid token sees every other) and shows what it computes."""
    with shown(layer.self_attn, see):
        found: Tensor = layer(stream.x, attention_mask=masks.filled(stream.valid))
    return found


def embed_block(name: str, stages: Sequence[Sequence[str]], embedded: Callable[[Seeing], Seeing]) -> Block:
    """The first block of a tower: from flattened patches to tokens, unless there are no pictures."""

    def call(stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        assert isinstance(stream, Seeing)
        return embedded(stream) if len(stream.x) else stream

    return Block(name, "vision", call, under(name, stages))


def layer_blocks(
    name: str, layers: Sequence[nn.Module], stages: Sequence[Sequence[str]], run: Run = attending
) -> list[Block]:
    """The layers of a tower, at the module path ``name``, as blocks; none runs without pictures."""
    paths = [f"{name}.{index}" for index in range(len(layers))]
    return [
        Block(path, "vision", partial(_run, run, layer), under(path, stages))
        for path, layer in zip(paths, layers, strict=True)
    ]


def _run(run: Run, layer: nn.Module, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
    return replace(stream, x=run(layer, stream, see)) if len(stream.x) else stream


def depth_of(chosen: object, count: int) -> int:
    """How many of a tower's ``count`` layers are run for the hidden states of layer ``chosen``, counted as the library
    does (0: before the first). Raises BadInput for a list of layers, or one that is not there."""
    if not isinstance(chosen, int) or not -count - 1 <= chosen <= count:
        raise BadInput(f"vision_feature_layer: got {chosen}; accepted: one layer from {-count - 1} to {count}")
    return chosen if chosen >= 0 else count + 1 + chosen


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
        return tiles_of(self.patch_embedding, pixels, (self.image_size, self.image_size))

    def join(self, tiles: Float[Tensor, "n patches in"]) -> Float[Tensor, "n tokens d"]:
        found = self.patch_embedding.linear(tiles)
        if self.class_embedding is not None:
            found = torch.cat([self.class_embedding.expand(found.shape[0], 1, -1), found], 1)
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
        first = embed_block(dotted(self.name, "embeddings"), (("patch_embedding",),), self.embedded)
        layers = self.module.encoder.layers[: self.depth]
        return [first, *layer_blocks(dotted(self.name, "encoder.layers"), layers, STAGES)]
