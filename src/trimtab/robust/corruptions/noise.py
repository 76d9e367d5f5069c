"""Gaussian noise, as a sensor in the dark adds: y = clip(x + s e, 0, 1), e ~ N(0, 1) for each pixel and channel.

x in shares of the full range; s is 0.08, 0.12, 0.18, 0.26, 0.38 at severities 1 to 5.
Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261 (``gaussian_noise``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from trimtab.core.card import Card
from trimtab.robust.corruptions.picture import at, picture, values

DEVIATION = (0.08, 0.12, 0.18, 0.26, 0.38)


@dataclass(frozen=True)
class Noise:
    """``severity``: 1 to 5."""

    severity: int

    CARD: ClassVar[Card] = Card(
        name="noise",
        family="robust",
        title="Benchmarking Neural Network Robustness to Common Corruptions and Perturbations: Gaussian noise",
        year=2019,
        where="ICLR 2019, arXiv 1903.12261",
        saves="none",
        departures="Values are rounded, not cut off, to whole ones. It is added at the picture's own size, whatever "
        "that is, and a processor that makes it smaller averages some of it away.",
    )

    def check(self) -> None:
        """Raises ValueError for a severity that is not 1 to 5."""
        at(DEVIATION, self.severity)

    def __call__(self, image: Image.Image, seed: int) -> Image.Image:
        """A noisy copy of ``image`` (L or RGB); the same for the same ``seed`` (0 or more)."""
        x = values(image)
        drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(x.shape, dtype=np.float32)
        return picture(x + 255 * at(DEVIATION, self.severity) * drawn)
