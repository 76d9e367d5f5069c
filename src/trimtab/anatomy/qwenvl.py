"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size, and rotary angles that follow time, row and column (M-RoPE,
Qwen2-VL, 2024, arXiv:2409.12191). Pictures only: videos are refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.anatomy.base import Batch, Part
from trimtab.anatomy.decoder import DEEP, GRID, Decoder
from trimtab.anatomy.grid import grid_of, rotary_on_grid
from trimtab.anatomy.llama import decoder_of
from trimtab.anatomy.qwenvision import TAKEN, Deep, Tower, Windowed
from trimtab.anatomy.vlm import PLACE, Joined, Seeing
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream

ATTENTION = (("attn.qkv",), ("attn.proj",))


class Qwen2VL(Joined):
    """``position_ids``, where given, are (b, t), places in the sequence as ``generate`` counts them; what rotary angles
    follow is always computed from ids and ``image_grid_thw``. (The library's bare forward, given (b, t), would put
    pictures in a line; its ``generate`` does not.)"""

    PARTS: ClassVar[dict[str, Part]] = {
        "model.visual": "vision",
        "model.visual.merger": "projector",
        "model.language_model.layers": "language",
        "model.language_model.embed_tokens": "embedding",
        "lm_head": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = (
        "model.visual.patch_embed.proj",
        "model.visual.blocks",
        "model.visual.merger",
        "model.language_model.layers",
        "lm_head",
    )
    LOAD_AS: ClassVar[str] = "Qwen2VLForConditionalGeneration"
    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values", "image_grid_thw", "mm_token_type_ids")
    EVEN: ClassVar[bool] = False
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]] = ("model.visual.merger", (("mlp.0",), ("mlp.2",)))

    @cached_property
    def decoder(self) -> Decoder:
        module = self.model.model.language_model
        return replace(decoder_of("model.language_model", module), rotary=rotary_on_grid(module))

    @cached_property
    def tower(self) -> Tower:
        return Tower("model.visual", self.model.model.visual, (*ATTENTION, ("mlp.fc1",), ("mlp.fc2",)))

    @property
    def unit(self) -> int:
        """Patches that become one token."""
        return int(self.model.config.vision_config.spatial_merge_size) ** 2

    def text(self, batch: Batch) -> Stream:
        """The prompt's words, with their places on the grid where there are pictures. Raises BadInput for videos."""
        given, sizes = batch.get("position_ids"), batch.get("image_grid_thw")
        if given is not None and given.ndim > 2:
            raise BadInput(
                f"position_ids: got shape {tuple(given.shape)}; accepted: (b, t), places in the sequence; those on the "
                "grid follow from image_grid_thw"
            )
        words = super().text(batch)
        if sizes is None:
            return words
        merge = self.model.config.vision_config.spatial_merge_size
        tokens = (sizes // sizes.new_tensor([1, merge, merge])).tolist()
        grid = grid_of(self.image_tokens(batch), words.valid, tokens)
        return replace(words, side={**words.side, GRID: grid})

    def image_tokens(self, batch: Batch) -> Bool[Tensor, "b t"]:
        """Image tokens as the processor marks them (1 in ``mm_token_type_ids``), else every placeholder."""
        ids, marks = batch["input_ids"], batch.get("mm_token_type_ids")
        if marks is None:
            return self.placeholders(ids)
        if marks.shape != ids.shape or bool((marks > 1).any()):
            raise BadInput(
                f"mm_token_type_ids: got shape {tuple(marks.shape)}, highest value {int(marks.max())}; accepted: "
                f"{tuple(ids.shape)} as input_ids, 0 for text and 1 for pictures (2 would be a video)"
            )
        found: Tensor = marks == 1
        return found

    def project(self, stream: Seeing) -> Float[Tensor, "n d"]:
        merged: Tensor = self.model.model.visual.merger(stream.x[0])
        return merged[stream.source[0, :: self.unit].argsort()]  # from the tower's order back to the words'

    def pictures(self, batch: Batch) -> list[Float[Tensor, "channels pixels"]]:
        pixels, channels = batch.get("pixel_values"), self.model.config.vision_config.in_channels
        if pixels is None:
            return []
        parts = pixels.split(batch["image_grid_thw"].prod(1).tolist())
        return [one.reshape(len(one), channels, -1).transpose(0, 1).flatten(1) for one in parts]

    def copies(self, ids: Integer[Tensor, "b t"], shown: Batch, times: int) -> Batch:
        made, sizes = dict(shown), shown.get("image_grid_thw")
        if "mm_token_type_ids" in shown:
            made["mm_token_type_ids"] = shown["mm_token_type_ids"].repeat_interleave(times, 0)
        if sizes is None:
            return made
        counts = self.placeholders(ids).sum(1)
        row_of = torch.searchsorted(counts.cumsum(0), (sizes.prod(1) // self.unit).cumsum(0))
        order = torch.cat([(row_of == row).nonzero()[:, 0].repeat(times) for row in range(len(ids))])
        made["image_grid_thw"] = sizes[order]
        if "pixel_values" in shown:
            parts = shown["pixel_values"].split(sizes.prod(1).tolist())
            made["pixel_values"] = torch.cat([parts[index] for index in order.tolist()])
        return made


class Qwen25VL(Qwen2VL):
    """Windows in the tower."""

    LOAD_AS: ClassVar[str] = "Qwen2_5_VLForConditionalGeneration"

    @cached_property
    def tower(self) -> Tower:
        stages = (*ATTENTION, ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))
        return Windowed("model.visual", self.model.model.visual, stages)


class Qwen3VL(Qwen2VL):
    """Features of several depths: the first goes in place of the image token, the next ones are added to it behind the
    first decoder layers."""

    PARTS: ClassVar[dict[str, Part]] = {**Qwen2VL.PARTS, "model.visual.deepstack_merger_list": "projector"}
    LOAD_AS: ClassVar[str] = "Qwen3VLForConditionalGeneration"
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]] = (
        "model.visual.merger", (("linear_fc1",), ("linear_fc2",)),
    )  # fmt: skip

    @cached_property
    def tower(self) -> Tower:
        stages = (*ATTENTION, ("mlp.linear_fc1",), ("mlp.linear_fc2",))
        return Deep("model.visual", self.model.model.visual, stages)

    def project(self, stream: Seeing) -> Float[Tensor, "n features"]:
        """The features of all depths side by side."""
        return torch.cat([super().project(stream), *stream.about[TAKEN]], 1)

    def merge(self, text: Stream, features: Float[Tensor, "n features"]) -> Stream:
        first, *deeper = features.split(text.x.shape[2], 1)
        here, joined = text.side[PLACE][..., None], super().merge(text, first)
        nothing = torch.zeros_like(joined.x)
        side = {DEEP.format(i): nothing.masked_scatter(here, one.to(nothing.dtype)) for i, one in enumerate(deeper)}
        return replace(joined, side={**joined.side, **side})
