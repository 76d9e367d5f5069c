"""Training pictures for the built-in model: easy-VQA's train split, with its shapes moved, mirrored and recoloured.

Each picture is a shape of one of eight flat colours on a plain ground. ``Bank`` separates the two, so that a training
picture can carry another ground, place and colour; shapes keep their size and outline (a mirror image apart). Only
pictures whose questions determine shape and colour are used. Nothing is drawn that the train split does not hold.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trimtab.data import easyvqa
from trimtab.data.easyvqa import COLORS, SHAPES, Facts

CLASSES = 1 + len(SHAPES) * len(COLORS)  # background, then shape-major
IGNORE = -100


@dataclass(frozen=True)
class Cutout:
    """A shape without its ground: ``mask`` (h, w), ``ground`` and ``paint`` (3,) uint8."""

    mask: NDArray[np.bool_]
    ground: NDArray[np.uint8]
    paint: NDArray[np.uint8]
    seen: Facts


def cut(image: Image.Image, seen: Facts) -> Cutout:
    """The shape of a picture: every pixel that is not the commonest one, in its bounding box."""
    pixels = np.asarray(image.convert("RGB"))
    values, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    ground = values[counts.argmax()]
    mask = (pixels != ground).any(-1)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside, often = np.unique(pixels[mask], axis=0, return_counts=True)
    return Cutout(mask[box], ground, inside[often.argmax()], seen)


def place(cutout: Cutout, ground: NDArray[np.uint8], paint: NDArray[np.uint8], rng: random.Random) -> tuple[
    NDArray[np.uint8], NDArray[np.bool_]
]:  # fmt: skip
    """The shape at a random place of a 64 x 64 picture, mirrored half of the time; and where it is."""
    size = easyvqa_size()
    mask = cutout.mask[:, ::-1] if rng.random() < 0.5 else cutout.mask
    height, width = mask.shape
    top, left = rng.randint(0, size - height), rng.randint(0, size - width)
    pixels = np.broadcast_to(ground, (size, size, 3)).copy()
    where = np.zeros((size, size), bool)
    where[top : top + height, left : left + width] = mask
    pixels[where] = paint
    return pixels, where


def easyvqa_size() -> int:
    """Side of an easy-VQA picture in pixels."""
    return 64


class Bank:
    """Every usable shape of the train split, and the drawing of new pictures from them."""

    def __init__(self, skip: frozenset[int] = frozenset()) -> None:
        known = easyvqa.facts("train")
        self.cutouts = []
        for number, seen in known.items():
            if number not in skip:
                with Image.open(easyvqa.picture("train", number)) as image:
                    self.cutouts.append(cut(image, seen))
        self.paint = {one.seen.color: one.paint for one in self.cutouts}

    def draw(self, rng: random.Random) -> tuple[NDArray[np.uint8], NDArray[np.int64], Facts]:
        """A picture (64, 64, 3), its class map (64, 64) and what it shows."""
        one, other = rng.choice(self.cutouts), rng.choice(self.cutouts)
        seen = Facts(one.seen.shape, rng.choice(COLORS))
        pixels, where = place(one, other.ground, self.paint[seen.color], rng)
        label = 1 + SHAPES.index(seen.shape) * len(COLORS) + COLORS.index(seen.color)
        return pixels, where * label, seen

    def sheet(self, rng: random.Random, side: int) -> tuple[Image.Image, NDArray[np.int64], tuple[Facts, ...]]:
        """side x side new pictures as one image, its class map and what the cells show, in reading order."""
        cells = [self.draw(rng) for _ in range(side * side)]
        rows = [slice(i * side, (i + 1) * side) for i in range(side)]
        pixels = np.concatenate([np.concatenate([c[0] for c in cells[row]], 1) for row in rows], 0)
        labels = np.concatenate([np.concatenate([c[1] for c in cells[row]], 1) for row in rows], 0)
        return Image.fromarray(pixels), labels, tuple(c[2] for c in cells)


def patch_labels(labels: NDArray[np.int64], patches: int, least: float = 0.08) -> NDArray[np.int64]:
    """The class of each of patches x patches squares: the shape that covers at least ``least`` of it, else 0.

    A square touched by less than that is IGNOREd: whether it sees the shape is a matter of one row of pixels.
    """
    side = len(labels)
    edges = np.linspace(0, side, patches + 1)
    low, high = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    out = np.zeros((patches, patches), np.int64)
    for i in range(patches):
        for j in range(patches):
            square = labels[low[i] : high[i], low[j] : high[j]]
            share = (square > 0).mean()
            if share >= least:
                out[i, j] = np.bincount(square[square > 0]).argmax()
            elif share > 0:
                out[i, j] = IGNORE
    return out
