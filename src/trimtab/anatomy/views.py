"""How a picture is cut into tiles and packed for the decoder: arithmetic on sizes, and one function on features.

The processor fits a picture, with borders, into the best of several grids of tiles and puts the whole picture, as one
more tile, in front. Behind the projector the tiles of the grid are laid out as one picture again, its borders are cut
off, and a learned newline ends every row of patches; the overview's patches come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
"""Rows and columns, or height and width."""


@dataclass(frozen=True)
class View:
    """One picture. ``side``: a tile has side x side patches. ``grid``: of its tiles, (0, 0) for an overview alone.
    ``border``: rows and columns of patches that are cut off on each side. ``size``: of the patches that are shown."""

    side: int
    grid: Size
    border: Size
    size: Size

    @property
    def tiles(self) -> int:
        return 1 + self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        return self.side**2 + self.size[0] * (self.size[1] + 1)


def overview(side: int) -> View:
    """A picture without tiles of its own: its overview and one newline, which is a row without patches."""
    return View(side, (0, 0), (0, 0), (1, 0))


def view(size: Size, sizes: Sequence[Sequence[int]], tile: int, side: int, most: int | None = None) -> View:
    """How a picture of ``size`` is shown. ``sizes``: of the grids in pixels; ``tile``: pixels of a tile's side.

    Where the patches behind the borders are more than 1.1^2 x ``most`` tiles, they are resized to ``most`` tiles.
    """
    high, wide = size
    best = best_of(size, sizes)
    grid = best[0] // tile, best[1] // tile
    rows, columns = grid[0] * side, grid[1] * side
    if wide / high > columns / rows:
        border = ((rows - int(round(high * (columns / wide), 7))) // 2, 0)
    else:
        border = (0, (columns - int(round(wide * (rows / high), 7))) // 2)
    rows, columns = rows - 2 * border[0], columns - 2 * border[1]
    ratio = 1.0 if most is None else sqrt(rows * columns / (most * side**2))
    if ratio > 1.1:
        rows, columns = int(rows // ratio), int(columns // ratio)
    return View(side, grid, border, (rows, columns))


def best_of(size: Size, sizes: Sequence[Sequence[int]]) -> Sequence[int]:
    """The first of the sizes that show the most pixels of a picture and, of these, leave the fewest empty."""

    def shown(other: Sequence[int]) -> tuple[int, int]:
        scale = min(other[1] / size[1], other[0] / size[0])
        pixels = min(int(size[1] * scale) * int(size[0] * scale), size[0] * size[1])
        return pixels, pixels - other[0] * other[1]

    return max(sizes, key=shown)


def pack(x: Float[Tensor, "tiles patches d"], shown: View, newline: Float[Tensor, " d"]) -> Float[Tensor, "tokens d"]:
    """The features of one picture in the order of its placeholders."""
    side, (rows, columns) = shown.side, shown.size
    if shown.grid == (0, 0):
        whole = x.new_zeros(rows, columns, x.shape[2])
    else:
        whole = x[1:].unflatten(1, (side, side)).unflatten(0, shown.grid).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        top, left = shown.border
        whole = whole[top : whole.shape[0] - top, left : whole.shape[1] - left]
    if whole.shape[:2] != shown.size:
        whole = F.interpolate(whole.permute(2, 0, 1)[None], shown.size, mode="bilinear")[0].permute(1, 2, 0)
    ends = newline.to(x.dtype).expand(rows, 1, -1)
    return torch.cat([x[0], torch.cat([whole, ends], 1).flatten(0, 1)])
