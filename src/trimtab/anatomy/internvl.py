"""InternVL: a vision tower of its own, pixel shuffle, a projector behind a norm, and a Qwen-like decoder.

A picture is cut into tiles, each of which stands for the same number of image tokens; the processor hands them over as
so many pictures, and the frames of a video too. Its vision layers take no keywords: nothing of them is seen.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from trimtab.anatomy.attention import See
from trimtab.anatomy.llava import Llava
from trimtab.anatomy.vision import depth_of
from trimtab.anatomy.vit import VitTower
from trimtab.anatomy.vlm import Seeing
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream

STAGES = (
    ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    ("attention.projection_layer",),
    ("mlp.fc1",),
    ("mlp.fc2",),
)


class Internvl(Llava):
    """Differs from LLaVA in its tower and in what is projected: the hidden states of layer ``vision_feature_layer``
    without the class token; those of layer -1 are the tower's answer, behind its final norm where it has one."""

    NEEDS: ClassVar[tuple[str, ...]] = (
        "model.vision_tower.embeddings.patch_embeddings.projection",
        "model.vision_tower.encoder.layer",
        "model.multi_modal_projector.layer_norm",
        "model.language_model.layers",
        "lm_head",
    )
    LOAD_AS: ClassVar[str] = "InternVLForConditionalGeneration with its own tower and a Llama-like decoder"

    @cached_property
    def tower(self) -> VitTower:
        module = self.model.model.vision_tower
        depth = depth_of(self.model.config.vision_feature_layer, len(module.encoder.layer))
        return VitTower("model.vision_tower", module, depth, STAGES, alone)

    def project(self, stream: Seeing) -> Float[Tensor, "n d"]:
        config, model, x = self.model.config, self.model.model, stream.x
        if config.vision_feature_select_strategy != "default":
            raise BadInput(
                f"vision_feature_select_strategy: got {config.vision_feature_select_strategy!r}; accepted: 'default' "
                "(with its class token a tile is no square of patches)"
            )
        if config.vision_feature_layer == -1:
            x = model.vision_tower.layernorm(x)
        projected: Tensor = model.multi_modal_projector(shuffled(x[:, 1:], round(1 / config.downsample_ratio)))
        return projected.flatten(0, 1)


def alone(layer: nn.Module, stream: Stream, see: See | None) -> Tensor:
    """A layer that takes nothing but its input."""
    found: Tensor = layer(stream.x)
    return found


def shuffled(x: Float[Tensor, "n patches d"], factor: int) -> Float[Tensor, "n fewer wider"]:
    """Pixel shuffle: each square of ``factor`` x ``factor`` patches becomes one, their features row by row side by
    side. Raises BadInput where patches are no square that ``factor`` divides."""
    side = round(x.shape[1] ** 0.5)
    if side**2 != x.shape[1] or side % factor:
        raise BadInput(f"downsample_ratio: got 1/{factor} for {x.shape[1]} patches; accepted: a divisor of their side")
    squares = x.unflatten(1, (side // factor, factor, side // factor, factor))
    return squares.transpose(2, 3).flatten(3).flatten(1, 2)
