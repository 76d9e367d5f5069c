"""Inputs mixed in small blocks before a matrix is rounded, and mixed so again at each call.

    W ~ Q(W H) H,    H = diag(h, .., h),  h the normalized Hadamard matrix of ``rotate`` inputs: its own inverse

Weights of long tails, and columns that are larger than the rest, become nearly normal: each new weight is a signed sum
of k old ones. The second moment of the inputs that Q sees is H X X^T H. H takes no bytes and is a node before the
matrix; it is folded into no other layer.

Source, for integer grids: Ashkboos et al. 2024 (QuaRot, arXiv 2404.00456), who rotate all inputs together; in blocks,
and for formats of 4 bits: Egiazarian et al. 2025 (arXiv 2509.23202).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from trimtab.core.blocks import Blocks, rotated
from trimtab.core.joins import Chain
from trimtab.core.weight import Weight

SIZES = (16, 32, 64, 128)
"""Blocks that may be asked for."""


def check_rotation(rotate: int, width: int) -> None:
    """Raises ValueError, with the nearest legal size, where a row of ``width`` has no such blocks; 0 is none."""
    if not rotate or (rotate in SIZES and width % rotate == 0):
        return
    legal = [size for size in SIZES if width % size == 0]
    best = min(legal, key=lambda size: abs(size - rotate), default=0)
    raise ValueError(f"rotate: got {rotate} for a row of {width}; accepted: "
                     f"{', '.join(['0 (none)', *map(str, legal)])} (nearest: {best})")  # fmt: skip


def mixed(x: Float[Tensor, "*b n"], rotate: int) -> Float[Tensor, "*b n"]:
    """Rows as they are rounded: those of W H, in float32 or more, or of W as it is where ``rotate`` is 0."""
    return rotated(x, rotate) if rotate else x


def turned(w: Weight, rotate: int) -> Weight:
    """``w`` behind the rotation of its inputs that it was fitted to."""
    return Chain([w, Blocks(w.shape[1], rotate)]) if rotate else w
