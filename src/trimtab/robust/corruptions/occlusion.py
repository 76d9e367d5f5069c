"""Occlusion, as by a finger or another thing in front: a rectangle somewhere in the picture becomes random values.

Its area is 5, 10, 20, 30, 50 % of the picture's at severities 1 to 5; where it lies is uniform over where it fits.
Zhong, Zheng, Kang, Li and Yang, AAAI 2020, arXiv 1708.04896, which erases at random to train, and to test what is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from trimtab.core.card import Card
from trimtab.robust.corruptions.picture import at, picture, values

SHARE = (0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Occlusion:
    """``severity``: 1 to 5."""

    severity: int

    CARD: ClassVar[Card] = Card(
        name="occlusion",
        family="robust",
        title="Random Erasing Data Augmentation",
        year=2020,
        where="AAAI 2020, arXiv 1708.04896",
        saves="none",
        departures="The five areas are ours (ImageNet-C has no occlusion). The rectangle has the picture's own "
        "proportions, each side being the square root of the area's share, where the paper draws them at random.",
    )

    def check(self) -> None:
        """Raises ValueError for a severity that is not 1 to 5."""
        at(SHARE, self.severity)

    def __call__(self, image: Image.Image, seed: int) -> Image.Image:
        """A copy of ``image`` (L or RGB) with a part hidden; the same for the same ``seed`` (0 or more)."""
        x = values(image)
        side = math.sqrt(at(SHARE, self.severity))
        high, wide = (max(1, round(side * length)) for length in x.shape[:2])
        draw = np.random.Generator(np.random.PCG64(seed))
        top, left = (int(draw.integers(0, room + 1)) for room in (x.shape[0] - high, x.shape[1] - wide))
        x[top : top + high, left : left + wide] = draw.integers(0, 256, (high, wide, x.shape[2]))
        return picture(x)
