"""easy-VQA (Victor Zhou, 2019, MIT): 5,000 pictures of one coloured shape, 48,248 questions, 13 answers.

The data come from the PyPI package ``easy-vqa``; only its files are read. ``answer`` is the data set's own rule,
written out: it gives the answer to any of its question forms from the picture's shape and colour, and None where the
question presupposes something that is not so ("what color is the circle?" of a square). ``facts`` inverts it: the
shape and colour of each picture whose questions determine both.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "gray", "red", "green", "blue", "brown", "teal", "yellow")
ANSWERS = (*SHAPES, *COLORS, "yes", "no")


class Facts(NamedTuple):
    """What a picture shows."""

    shape: str
    color: str


def root(split: str) -> Path:
    """The folder of a split, ``train`` or ``test``, inside the installed ``easy-vqa`` package."""
    if split not in ("train", "test"):
        raise ValueError(f"split: got {split!r}; easyvqa has 'train' and 'test'")
    return Path(str(files("easy_vqa"))) / "data" / split


@cache
def questions(split: str) -> tuple[tuple[str, str, int], ...]:
    """All (question, answer, picture number) of a split, in the published order."""
    rows = json.loads((root(split) / "questions.json").read_text(encoding="utf-8"))
    return tuple((question, answer, int(number)) for question, answer, number in rows)


def picture(split: str, number: int) -> Path:
    """The PNG file (64 x 64) of a picture."""
    return root(split) / "images" / f"{number}.png"


def answer(question: str, seen: Facts) -> str | None:
    """The data set's answer to ``question`` for a picture that shows ``seen``; None where it does not apply."""
    words = set(question.rstrip("?").split())
    shapes, colors = words & set(SHAPES), words & set(COLORS)
    if "color" in words:
        return seen.color if shapes <= {seen.shape} else None
    if "what" in words:
        return seen.shape if colors <= {seen.color} else None
    agrees = shapes <= {seen.shape} and colors <= {seen.color}
    negated = bool(words & {"not", "no"})
    return "yes" if agrees != negated else "no"


@cache
def facts(split: str) -> dict[int, Facts]:
    """Shape and colour of every picture whose questions determine both (3,578 of 4,000 train, 888 of 1,000 test)."""
    every = {Facts(shape, color) for shape in SHAPES for color in COLORS}
    possible: dict[int, set[Facts]] = defaultdict(lambda: set(every))
    for question, given, number in questions(split):
        possible[number] = {seen for seen in possible[number] if answer(question, seen) == given}
    return {number: next(iter(left)) for number, left in sorted(possible.items()) if len(left) == 1}
