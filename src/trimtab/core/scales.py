"""The scale of each group of weights, stored in 32 bits, or in 8 bits with coarser numbers beside them.

scale = value(byte) * coarse + mean

float32   the number itself                                      NF4 (Dettmers et al. 2023, arXiv 2305.14314)
e4m3      an 8-bit float, 4 bits of exponent and 3 of mantissa   NF4 with double quantization: coarse for 256 scales,
                                                                 and mean; NVFP4: one coarse for the matrix, no mean
e8m0      2^(byte - 127)                                         MXFP4 (OCP Microscaling Formats 1.0, 2023)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

VALUES: Mapping[str, Callable[[Tensor], Float[Tensor, "*a"]]] = {
    "float32": lambda stored: stored,
    "e4m3": lambda stored: stored.view(torch.float8_e4m3fn).float(),
    "e8m0": lambda stored: stored.view(torch.float8_e8m0fnu).float(),
}
"""By form: the numbers that are stored, in float32."""


class Scales(NamedTuple):
    """``stored`` (rows, groups): float32, or the bytes of ``form``. ``coarse`` (ceil(rows groups / block),) float32:
    one for every ``block`` scales, counted along the rows; ``mean`` (1,) float32."""

    stored: Float[Tensor, "rows groups"] | UInt8[Tensor, "rows groups"]
    form: str
    coarse: Float[Tensor, " blocks"] | None = None
    mean: Float[Tensor, " one"] | None = None
    block: int = 0

    def read(self, rows: slice | Integer[Tensor, " n"]) -> Float[Tensor, "n groups"]:
        """The scales of some rows, in float32."""
        found = VALUES[self.form](self.stored[rows])
        if self.coarse is not None:
            high, groups = self.stored.shape
            index = torch.arange(high, device=self.stored.device)[rows, None] * groups
            found = found * self.coarse[(index + torch.arange(groups, device=index.device)) // self.block]
        return found if self.mean is None else found + self.mean


def coarse_count(count: int, block: int) -> int:
    """How many coarse numbers ``count`` scales have."""
    return -(-count // block)
