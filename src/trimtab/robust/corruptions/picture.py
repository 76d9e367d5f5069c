"""Between pictures and arrays of their values, and a table of five severities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from PIL import Image

MODES = ("L", "RGB")
REFERENCE = 224  # pixels at the shorter side of the pictures for which ImageNet-C gives its lengths
T = TypeVar("T")


def at(table: Sequence[T], severity: int) -> T:
    """The entry of ``table`` for ``severity``, counted from 1. Raises ValueError for any other."""
    accepted = range(1, len(table) + 1)
    if type(severity) is not int or severity not in accepted:
        raise ValueError(f"severity: got {severity!r}; accepted: {', '.join(map(str, accepted))}")
    return table[severity - 1]


def values(image: Image.Image) -> Float[np.ndarray, "h w c"]:
    """A copy of the picture's values, 0 to 255, in float32. Raises ValueError for a mode without 8-bit channels."""
    if image.mode not in MODES:
        raise ValueError(f"image: got mode {image.mode!r}; accepted: {', '.join(MODES)}")
    x = np.array(image, dtype=np.float32)
    return x if x.ndim == 3 else x[..., None]


def picture(x: Float[np.ndarray, "h w c"]) -> Image.Image:
    """The picture with these values, cut to 0 to 255 and rounded to whole ones; one channel makes a grey one."""
    whole = np.rint(np.clip(x, 0, 255)).astype(np.uint8)
    return Image.fromarray(whole if whole.shape[2] > 1 else whole[..., 0])
