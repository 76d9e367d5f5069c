"""A square matrix that mixes neighbours only: equal blocks along its diagonal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, final

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.core.weight import Weight, rows, times, wide


@cache
def signs(size: int) -> Float[Tensor, "k k"]:
    """The Hadamard matrix of +1 and -1 by Sylvester's rule, H_2k = [[H_k, H_k], [H_k, -H_k]]; symmetric, H H = k I.

    Raises ValueError where ``size`` is no power of two.
    """
    if size < 1 or size & (size - 1):
        raise ValueError(f"size: got {size}; accepted: a power of two")
    with torch.inference_mode(False):  # kept for later calls, in which there may be gradients
        made = torch.ones(1, 1, device="cpu")
        while len(made) < size:
            made = torch.cat([torch.cat([made, made], 1), torch.cat([made, -made], 1)])
    return made


def rotated(x: Float[Tensor, "*b n"], size: int) -> Float[Tensor, "*b n"]:
    """Every ``size`` neighbours of ``x`` times the normalized Hadamard matrix, in float32 or more: its own inverse."""
    high = wide(x)
    mixed = high.unflatten(-1, (-1, size)) @ signs(size).to(high)
    return (mixed * size**-0.5).flatten(-2)


def rotated_moment(h: Float[Tensor, "n n"], size: int) -> Float[Tensor, "n n"]:
    """H X X^T H of a second moment X X^T: that of the rotated inputs. As it is where ``size`` is 0."""
    if not size:
        return h
    made = rotated(rotated(h, size).T, size)
    made.diagonal().clamp_(min=0)  # inputs that cancel leave a rounding error of either sign
    return made


@final
class Blocks(Weight):
    """diag(H, .., H) of order ``width``, H the normalized Hadamard matrix of order ``size``: orthogonal, symmetric, so
    its own inverse, and known without a stored number.

    In a Chain behind a matrix it rotates that matrix's inputs. ``forward`` works in float32 and rounds once.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.width, self.size = width, size

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Blocks:
        if spec["of"] != "hadamard":
            raise ValueError(f"of: got {spec['of']!r}; accepted: 'hadamard'")
        return cls(spec["shape"][0], spec["size"])

    @property
    def shape(self) -> tuple[int, int]:
        return self.width, self.width

    @property
    def dtype(self) -> torch.dtype:
        """float32: nothing is stored that could be in another."""
        return torch.float32

    def dense(self) -> Float[Tensor, "n n"]:
        return rotated(torch.eye(self.width), self.size)

    def forward(self, x: Float[Tensor, "*b n"], bias: Float[Tensor, " n"] | None = None) -> Float[Tensor, "*b n"]:
        y = rotated(x, self.size).to(x.dtype)
        return y if bias is None else y + bias

    def spec(self) -> dict[str, Any]:
        return {"kind": "blocks", "version": self.VERSION, "shape": list(self.shape), "of": "hadamard",
                "size": self.size}  # fmt: skip


@rows.register
def _(w: Blocks, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b n"]:
    return rotated(torch.eye(w.width, device=index.device)[index], w.size)


@times.register
def _(w: Blocks, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
    return rotated(x, w.size)
