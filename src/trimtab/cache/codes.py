"""Keys and values as packed integer codes: what is stored of a group is its codes, its least value and a scale.

x is stored as  q = round((x - low) / scale)  with  scale = (high - low) / (2^bits - 1),  and read as  low + scale q
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from trimtab.core.pack import pack, unpack
from trimtab.core.slot import along


@dataclass(frozen=True)
class Codes:
    """Vectors (..., m), each a group of its own: codes of ``bits``, packed, with ``scale`` and ``low`` of each."""

    codes: UInt8[Tensor, "*b bytes"]
    scale: Float[Tensor, "*b"]
    low: Float[Tensor, "*b"]
    bits: int

    @classmethod
    def of(cls, x: Float[Tensor, "*b m"], bits: int) -> Codes:
        """The codes of ``x`` on the grid from its least to its greatest value. Raises ValueError where the codes of a
        vector do not fill whole bytes."""
        low, high = x.aminmax(dim=-1)
        scale = ((high.float() - low.float()) / (2**bits - 1)).to(x.dtype)
        steps = (x.float() - low.float()[..., None]) / torch.where(scale == 0, 1.0, scale.float())[..., None]
        codes = steps.round_().clamp_(0, 2**bits - 1).to(torch.uint8)
        packed = pack(codes.flatten(0, -2), bits)
        return cls(packed.unflatten(0, x.shape[:-1]), scale, low, bits)

    def values(self) -> Float[Tensor, "*b m"]:
        """What the codes stand for."""
        codes = unpack(self.codes, self.bits).float()
        return (codes * self.scale.float()[..., None] + self.low.float()[..., None]).to(self.scale.dtype)

    @property
    def nbytes(self) -> int:
        return int(self.codes.nbytes + self.scale.nbytes + self.low.nbytes)

    def take(self, groups: Integer[Tensor, "b *g n"]) -> Codes:
        """Those at ``groups`` of the third axis."""
        return replace(self, codes=along(self.codes, groups), scale=along(self.scale, groups),
                       low=along(self.low, groups))  # fmt: skip

    def join(self, other: Codes) -> Codes:
        """These and then the others, along the third axis."""
        pairs = ((self.codes, other.codes), (self.scale, other.scale), (self.low, other.low))
        codes, scale, low = (torch.cat(pair, 2) for pair in pairs)
        return replace(self, codes=codes, scale=scale, low=low)


@dataclass(frozen=True)
class Grouped:
    """Entries in groups of ``group_size``: keys have a grid for each channel of a group, over its tokens; values one
    for each token, over ``span`` channels."""

    keys: Codes  # (b, g, groups, channels), vectors of group_size tokens
    values: Codes  # (b, g, groups, tokens, channels / span), vectors of span channels
    group_size: int

    @classmethod
    def of(cls, k: Float[Tensor, "b g n d"], v: Float[Tensor, "b g n e"], bits: int, group_size: int) -> Grouped:
        """``n`` must be a multiple of ``group_size``. A span is ``group_size`` channels where these divide a head's,
        else all of them. Raises ValueError where the codes of one do not fill whole bytes."""
        span = group_size if v.shape[3] % group_size == 0 else v.shape[3]
        tokens = v.unflatten(2, (-1, group_size)).unflatten(4, (-1, span))
        channels = k.unflatten(2, (-1, group_size)).transpose(3, 4)
        return cls(Codes.of(channels, bits), Codes.of(tokens, bits), group_size)

    @property
    def length(self) -> int:
        return int(self.keys.codes.shape[2] * self.group_size)

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def read(self) -> tuple[Float[Tensor, "b g n d"], Float[Tensor, "b g n e"]]:
        """Keys and values, as they were to within half a step of their grids."""
        k = self.keys.values().transpose(3, 4).flatten(2, 3)
        return k, self.values.values().flatten(4).flatten(2, 3)

    def take(self, groups: Integer[Tensor, "b *g n"]) -> Grouped:
        return replace(self, keys=self.keys.take(groups), values=self.values.take(groups))

    def join(self, other: Grouped) -> Grouped:
        return replace(self, keys=self.keys.join(other.keys), values=self.values.join(other.values))
