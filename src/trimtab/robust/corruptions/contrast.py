"""Lost contrast, as in fog or poor light: y = c (x - m) + m, with m the mean of each channel over the picture.

c is 0.4, 0.3, 0.2, 0.1, 0.05 at severities 1 to 5.
Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261 (``contrast``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from trimtab.core.card import Card
from trimtab.robust.corruptions.picture import at, picture, values

LEFT = (0.4, 0.3, 0.2, 0.1, 0.05)


@dataclass(frozen=True)
class Contrast:
    """``severity``: 1 to 5."""

    severity: int

    CARD: ClassVar[Card] = Card(
        name="contrast",
        family="robust",
        title="Benchmarking Neural Network Robustness to Common Corruptions and Perturbations: contrast",
        year=2019,
        where="ICLR 2019, arXiv 1903.12261",
        saves="none",
        departures="Values are rounded, not cut off, to whole ones.",
    )

    def check(self) -> None:
        """Raises ValueError for a severity that is not 1 to 5."""
        at(LEFT, self.severity)

    def __call__(self, image: Image.Image, seed: int) -> Image.Image:
        """A paler copy of ``image`` (L or RGB); ``seed`` is not looked at."""
        x = values(image)
        mean = x.mean((0, 1), dtype=np.float64)
        return picture(at(LEFT, self.severity) * (x - mean) + mean)
