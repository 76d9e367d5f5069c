"""Leaves whose matrix is far larger than what is stored: a product of two thin ones, and a diagonal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.core.weight import Weight, dtype_of, name_of, rows, times, wide


def kept(value: Tensor) -> nn.Parameter:
    """``value`` as a parameter, frozen unless it is one already."""
    return value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)


@final
class LowRank(Weight):
    """scale * left @ right: of rank r at most. With ``left`` (out, r) and ``right`` (r, in) it is LoRA's B and A.

    ``drop``: the share of inputs that are left out at random while it is in training mode; 0 but where one trains it.
    """

    def __init__(self, left: Float[Tensor, "out r"], right: Float[Tensor, "r in"], scale: float = 1.0) -> None:
        super().__init__()
        self.left, self.right, self.scale = kept(left), kept(right), scale
        self.drop = 0.0

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> LowRank:
        (out, width), rank, dtype = spec["shape"], spec["rank"], dtype_of(spec["dtype"])
        return cls(torch.empty(out, rank, dtype=dtype), torch.empty(rank, width, dtype=dtype), spec["scale"])

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.left.dtype

    @property
    def rank(self) -> int:
        """The inner dimension."""
        return self.right.shape[0]

    def dense(self) -> Float[Tensor, "out in"]:
        product: Tensor = (wide(self.left) @ wide(self.right) * self.scale).to(self.dtype)
        return product

    def forward(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        """Through the thin side: r (in + out) products for each row of x, not in x out."""
        if self.drop and self.training:
            x = F.dropout(x, self.drop)
        thin = F.linear(x, self.right.to(x.dtype))
        return F.linear(thin if self.scale == 1.0 else thin * self.scale, self.left.to(x.dtype), bias)

    def spec(self) -> dict[str, Any]:
        return {"kind": "low_rank", "version": self.VERSION, "shape": list(self.shape), "rank": self.rank,
                "scale": self.scale, "dtype": name_of(self.dtype)}  # fmt: skip


@final
class Diagonal(Weight):
    """A square matrix with ``value`` (n,) on its diagonal: in a Chain, a factor for each input or each output."""

    def __init__(self, value: Float[Tensor, " n"]) -> None:
        super().__init__()
        self.value = kept(value)

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Diagonal:
        return cls(torch.empty(spec["shape"][0], dtype=dtype_of(spec["dtype"])))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.value), len(self.value)

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

    def dense(self) -> Float[Tensor, "n n"]:
        return torch.diag(self.value)

    def forward(self, x: Float[Tensor, "*b n"], bias: Float[Tensor, " n"] | None = None) -> Float[Tensor, "*b n"]:
        y = x * self.value.to(x.dtype)
        return y if bias is None else y + bias

    def spec(self) -> dict[str, Any]:
        return {"kind": "diagonal", "version": self.VERSION, "shape": list(self.shape), "dtype": name_of(self.dtype)}


@rows.register
def _(w: LowRank, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    found: Tensor = (wide(w.left[index]) @ wide(w.right) * w.scale).to(w.dtype)
    return found


@rows.register
def _(w: Diagonal, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    found = torch.zeros(*index.shape, len(w.value), dtype=w.dtype, device=w.value.device)
    return found.scatter_(-1, index[..., None], w.value.detach()[index][..., None])


@times.register
def _(w: Diagonal, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
    return wide(x) * wide(w.value)
