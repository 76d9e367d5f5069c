"""Gaussian blur, as a lens out of focus makes: each channel convolved with g(i, j) ~ exp(-(i^2 + j^2) / (2 r^2)).

r is 1, 2, 3, 4, 6 pixels at severities 1 to 5 where the shorter side has 224. Beyond an edge its pixels repeat.
Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261 (``gaussian_blur``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from PIL import Image

from trimtab.core.card import Card
from trimtab.robust.corruptions.picture import REFERENCE, at, picture, values

RADIUS = (1.0, 2.0, 3.0, 4.0, 6.0)
REACH = 4.0  # standard deviations after which the kernel ends


@dataclass(frozen=True)
class Blur:
    """``severity``: 1 to 5."""

    severity: int

    CARD: ClassVar[Card] = Card(
        name="blur",
        family="robust",
        title="Benchmarking Neural Network Robustness to Common Corruptions and Perturbations: Gaussian blur",
        year=2019,
        where="ICLR 2019, arXiv 1903.12261",
        saves="none",
        departures="The radius is the paper's for 224 pixels times the shorter side over 224, so that the same share "
        "of any picture runs together; on pictures under some 60 pixels severity 1 then hardly changes a value. Values "
        "are rounded, not cut off, to whole ones.",
    )

    def check(self) -> None:
        """Raises ValueError for a severity that is not 1 to 5."""
        at(RADIUS, self.severity)

    def __call__(self, image: Image.Image, seed: int) -> Image.Image:
        """A blurred copy of ``image`` (L or RGB); ``seed`` is not looked at."""
        radius = at(RADIUS, self.severity) * min(image.size) / REFERENCE
        x = values(image)
        return picture(np.stack([blurred(x[..., i], radius) for i in range(x.shape[2])], axis=-1))


def blurred(x: Float[np.ndarray, "h w"], radius: float) -> Float[np.ndarray, "h w"]:
    """The convolution of one channel, along its columns and then its rows; by Fourier transforms, whose cost does not
    grow with the radius."""
    reach = math.ceil(REACH * radius)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    kernel /= kernel.sum()
    for _ in range(2):
        wide = np.pad(x, ((reach, reach), (0, 0)), mode="edge")
        spectrum = np.fft.rfft(wide, axis=0) * np.fft.rfft(kernel, len(wide))[:, None]
        x = np.fft.irfft(spectrum, len(wide), axis=0)[2 * reach :].T
    return x
