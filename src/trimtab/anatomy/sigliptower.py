"""SigLIP's vision tower, shared by all models that see through it: no class token; a head that pools by attention.

torch's own attention, by which the head pools, reads a fused ``in_proj_weight``: ours stands in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.anatomy.base import dotted
from trimtab.anatomy.vision import Tower
from trimtab.anatomy.vlm import Seeing
from trimtab.core.linear import Linear, Recast
from trimtab.core.weight import Dense

POOL = (("attention.q_proj",), ("attention.k_proj", "attention.v_proj"), ("attention.out_proj",), ("mlp.fc1",),
        ("mlp.fc2",))  # fmt: skip


class Attention(Recast):
    """``nn.MultiheadAttention`` with q, k and v as linears of their own: views of the fused parameters."""

    def __init__(self, module: nn.MultiheadAttention, name: str) -> None:
        super().__init__()
        self.heads = module.num_heads
        weights, biases = module.in_proj_weight.detach().chunk(3), module.in_proj_bias.detach().chunk(3)
        self.q_proj, self.k_proj, self.v_proj = (
            Linear(Dense(weight), nn.Parameter(bias, requires_grad=False), f"{name}.{part}_proj")
            for part, weight, bias in zip("qkv", weights, biases, strict=True)
        )
        self.out_proj = Linear.of(module.out_proj, f"{name}.out_proj")

    def forward(
        self, query: Float[Tensor, "n t d"], key: Float[Tensor, "n s d"], value: Float[Tensor, "n s d"]
    ) -> tuple[Float[Tensor, "n t d"], None]:
        q, k, v = (
            made.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for made in (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)), None

    def original(self) -> dict[str, Tensor]:
        fused = (self.q_proj, self.k_proj, self.v_proj)
        return {
            "in_proj_weight": torch.cat([one.w.dense() for one in fused]),
            "in_proj_bias": torch.cat([one.bias for one in fused if one.bias is not None]),
            "out_proj.weight": self.out_proj.w.dense(),
            **({} if self.out_proj.bias is None else {"out_proj.bias": self.out_proj.bias}),
        }


@dataclass(frozen=True)
class SiglipTower(Tower):
    """All layers of a SiglipVisionModel. A pooling head that it has is hosted, whether or not anything runs it."""

    def host(self) -> None:
        super().host()
        head = getattr(self.module, "head", None)
        if head is not None and not isinstance(head.attention, Attention):
            head.attention = Attention(head.attention, dotted(self.name, "head.attention"))

    def embedded(self, stream: Seeing) -> Seeing:
        return replace(stream, x=self.module.embeddings.join(stream.x))


def tower_of(name: str, module: Any) -> SiglipTower:
    """The SiglipVisionModel ``module`` at the path ``name``."""
    return SiglipTower(name, module, len(module.encoder.layers))
