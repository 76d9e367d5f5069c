"""easyvqa-grid: seeded 3 x 3 collages of easy-VQA pictures, with questions about places, rows, counts and lists.

easy-VQA shows one shape on a plain ground, so most visual tokens are idle and its answers are one word. A collage
(192 x 192) uses every part of the picture, and its answers are 1 to 27 tokens long, so that dropping visual tokens or
cached keys costs something that can be measured. A split's collages are made of that split's pictures only.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image

from trimtab.data import easyvqa
from trimtab.data.easyvqa import COLORS, SHAPES, Facts

SIDE, CELL = 3, 64
# kind of question -> share of the set, in hundredths
KINDS = {
    "color_at": 20, "shape_at": 20, "shapes_in": 13, "colors_in": 12, "exists": 10, "count_color": 6, "count_shape": 4,
    "describe_row": 5, "list_colors": 4, "list_shapes": 4, "describe": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Collage:
    """Nine picture numbers of one split in reading order, and what each shows."""

    split: str
    numbers: tuple[int, ...]
    seen: tuple[Facts, ...]

    def open(self) -> Image.Image:
        """The collage as an RGB image of 192 x 192."""
        sheet = Image.new("RGB", (SIDE * CELL, SIDE * CELL))
        for place, number in enumerate(self.numbers):
            with Image.open(easyvqa.picture(self.split, number)) as tile:
                sheet.paste(tile.convert("RGB"), (place % SIDE * CELL, place // SIDE * CELL))
        return sheet


def collage(split: str, index: int, seed: int = 0) -> Collage:
    """Collage number ``index``: nine different pictures of ``split``, the same for the same (split, index, seed)."""
    known = easyvqa.facts(split)
    numbers = tuple(random.Random(f"grid/{split}/{seed}/{index}").sample(sorted(known), SIDE * SIDE))
    return Collage(split, numbers, tuple(known[number] for number in numbers))


def ask(seen: tuple[Facts, ...], kind: str, rng: random.Random) -> tuple[str, str]:
    """One question of ``kind`` about nine cells in reading order, and its answer. Raises KeyError on another kind."""
    row, column = rng.randrange(SIDE), rng.randrange(SIDE)
    place = f"row {row + 1} column {column + 1}"
    line, cells = rng.choice([
        (f"row {row + 1}", [SIDE * row + i for i in range(SIDE)]),
        (f"column {column + 1}", [SIDE * i + column for i in range(SIDE)]),
    ])  # fmt: skip
    shape, color = rng.choice(SHAPES), rng.choice(COLORS)
    if kind == "exists" and rng.random() < 0.5:  # half of them true, so that "no" is not a safe guess
        shape, color = rng.choice(seen)
    pairs = [f"{one.color} {one.shape}" for one in seen]
    here = seen[SIDE * row + column]
    forms = {
        "color_at": (f"what color is at {place}?", here.color),
        "shape_at": (f"what shape is at {place}?", here.shape),
        "shapes_in": (f"list the shapes in {line}", " ".join(seen[i].shape for i in cells)),
        "colors_in": (f"list the colors in {line}", " ".join(seen[i].color for i in cells)),
        "exists": (f"is there a {color} {shape}?", "yes" if Facts(shape, color) in seen else "no"),
        "count_color": (f"how many {color} shapes are there?", str(sum(one.color == color for one in seen))),
        "count_shape": (f"how many {shape}s are there?", str(sum(one.shape == shape for one in seen))),
        "describe_row": (f"describe row {row + 1}", ", ".join(pairs[SIDE * row : SIDE * row + SIDE])),
        "list_colors": ("list the colors in reading order", " ".join(one.color for one in seen)),
        "list_shapes": ("list the shapes in reading order", " ".join(one.shape for one in seen)),
        "describe": ("describe the grid", ", ".join(pairs)),
    }
    return forms[kind]


def pose(
    seen: tuple[Facts, ...], count: int, rng: random.Random, shares: Mapping[str, int] = MappingProxyType(KINDS)
) -> list[tuple[str, str, str]]:
    """``count`` (kind, question, answer) about a collage; kinds drawn by their share, no question twice."""
    found: dict[str, tuple[str, str, str]] = {}
    while len(found) < count:
        kind = rng.choices(list(shares), weights=list(shares.values()))[0]
        question, given = ask(seen, kind, rng)
        found.setdefault(question, (kind, question, given))
    return list(found.values())
