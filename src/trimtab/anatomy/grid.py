"""Multimodal rotary positions (M-RoPE, Qwen2-VL, 2024, arXiv:2409.12191): rotary angles follow a token's time, row and
column; all three are the same for words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from trimtab.anatomy.decoder import Rotary, rotary_of
from trimtab.core.errors import BadInput


def rotary_on_grid(module: Any) -> Rotary:
    """The rotary embedding of a stack that follows time, row and column, (b, t, 3), or places in a line, (b, t)."""
    plain = rotary_of(module)

    def angles(where: Tensor, dtype: torch.dtype, kind: str) -> tuple[Tensor, Tensor]:
        return plain(where.permute(2, 0, 1) if where.ndim == 3 else where, dtype, kind)

    return angles


def grid_of(
    image: Bool[Tensor, "b t"], valid: Bool[Tensor, "b t"], sizes: Iterable[Sequence[int]]
) -> Integer[Tensor, "b t 3"]:
    """Time, row and column of every token, 0 at padding.

    A word stands at (p, p, p), one past all before it; token (i, j, k) of a picture of t x h x w tokens that begins at
    p at (p + i, p + j, p + k), and what follows it begins at p + max(h, w). ``sizes`` are those of the pictures that
    are seen, in order. Raises BadInput where a run of image tokens is not the next picture's.
    """
    found, waiting = torch.zeros(*image.shape, 3, dtype=torch.long, device=image.device), iter(sizes)
    for row in range(len(image)):
        begin, parts = 0, [found.new_zeros(0, 3)]
        runs = image[row, valid[row]].long().unique_consecutive(return_counts=True)
        for seen, length in zip(*(run.tolist() for run in runs), strict=True):
            if not seen:
                parts.append((begin + torch.arange(length, device=image.device))[:, None].expand(-1, 3))
                begin += length
                continue
            t, h, w = next(waiting, (0, 0, 0))
            if t * h * w != length:
                raise BadInput(
                    f"input_ids: got {length} image tokens in row {row} for a picture of {t} x {h} x {w}; accepted: as "
                    "many as image_grid_thw says, each picture's in one run, seen as a whole, apart from the next one's"
                )
            axes = [torch.arange(size, device=image.device) for size in (t, h, w)]
            parts.append(begin + torch.cartesian_prod(*axes))
            begin += max(h, w)
        found[row, valid[row]] = torch.cat(parts)
    return found
