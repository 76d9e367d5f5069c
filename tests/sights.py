"""Random streams and sights for the laws of token policies: ragged images, either padding side, grouped queries."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from trimtab.core.keep import Sight, Stream
from trimtab.core.stats import IMAGE, PADDING, TEXT

WIDTH, HEADS, KEYS, SIZE = 16, 4, 2, 8


def sample(images: list[int], text: int = 3) -> Sight:
    """One unpadded sample: text, then each image of so many tokens followed by text; causal attention."""
    runs = [(TEXT, text)] + [run for n in images for run in ((IMAGE, n), (TEXT, text))]
    kinds = torch.cat([torch.full((n,), kind) for kind, n in runs])[None]
    t = kinds.shape[1]
    place = torch.arange(t)[None]
    stream = Stream(torch.randn(1, t, WIDTH), place + 5, kinds, torch.ones(1, t, dtype=torch.bool), place)
    mask = torch.ones(t, t, dtype=torch.bool).tril()[None, None]
    return Sight(stream, 2, torch.randn(1, HEADS, t, SIZE), torch.randn(1, KEYS, t, SIZE), mask, 0.7)


def batch(sights: list[Sight], side: str = "left") -> Sight:
    """The samples in one batch, padded on ``side`` with values that would do harm if they were looked at."""
    longest = max(s.stream.x.shape[1] for s in sights)
    return Sight(
        Stream(
            torch.cat([_padded(s.stream.x, longest, side, 1, 9.0) for s in sights]),
            torch.cat([_padded(s.stream.positions, longest, side, 1, 0) for s in sights]),
            torch.cat([_padded(s.stream.kinds, longest, side, 1, PADDING) for s in sights]),
            torch.cat([_padded(s.stream.valid, longest, side, 1, False) for s in sights]),
            torch.cat([_padded(s.stream.source, longest, side, 1, 0) for s in sights]),
        ),
        2,
        torch.cat([_padded(s.q, longest, side, 2, 9.0) for s in sights]),
        torch.cat([_padded(s.k, longest, side, 2, 9.0) for s in sights]),
        torch.cat([_padded(_padded(s.mask, longest, side, 2, False), longest, side, 3, False) for s in sights]),
        sights[0].scaling,
    )


def _padded(t: torch.Tensor, longest: int, side: str, axis: int, value: float) -> torch.Tensor:
    gap = longest - t.shape[axis]
    before, after = (gap, 0) if side == "left" else (0, gap)
    ends = [0, 0] * (t.dim() - 1 - axis) + [before, after]
    return F.pad(t, ends, value=value)


def images_only(x: torch.Tensor) -> Sight:
    """One sample whose image tokens are ``x`` (n, d), between two words."""
    n, d = x.shape
    kinds = torch.tensor([[TEXT] + [IMAGE] * n + [TEXT]])
    place = torch.arange(n + 2)[None]
    hidden = torch.cat([torch.zeros(1, d), x, torch.zeros(1, d)])[None]
    return Sight(Stream(hidden, place, kinds, torch.ones(1, n + 2, dtype=torch.bool), place), 0)
