"""JPEG compression, as on the way through a messenger: the picture is written and read back.

The quality is 25, 18, 15, 10, 7 at severities 1 to 5.
Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261 (``jpeg_compression``).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from trimtab.core.card import Card
from trimtab.robust.corruptions.picture import at, picture, values

QUALITY = (25, 18, 15, 10, 7)


@dataclass(frozen=True)
class JPEG:
    """``severity``: 1 to 5."""

    severity: int

    CARD: ClassVar[Card] = Card(
        name="jpeg",
        family="robust",
        title="Benchmarking Neural Network Robustness to Common Corruptions and Perturbations: JPEG compression",
        year=2019,
        where="ICLR 2019, arXiv 1903.12261",
        saves="none",
        departures="Blocks are 8 x 8 pixels of the picture's own size, whatever that is: small pictures suffer more.",
    )

    def check(self) -> None:
        """Raises ValueError for a severity that is not 1 to 5."""
        at(QUALITY, self.severity)

    def __call__(self, image: Image.Image, seed: int) -> Image.Image:
        """A copy of ``image`` (L or RGB) that was a JPEG; ``seed`` is not looked at."""
        file = io.BytesIO()
        picture(values(image)).save(file, format="JPEG", quality=at(QUALITY, self.severity))
        with Image.open(file, formats=["JPEG"]) as read:
            return picture(values(read))
