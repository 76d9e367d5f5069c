"""The data sets that Trimtab knows by name, as rows from which lists and docs are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Builtin:
    """``splits`` maps a split to its number of samples (0: as many as the text gives)."""

    type: Literal["vqa", "text"]
    title: str
    splits: dict[str, int]
    license: str
    source: str


BUILTIN = {
    "easyvqa": Builtin(
        "vqa", "one coloured shape, 13 answers (Zhou, 2019)", {"train": 38575, "test": 9673}, "MIT",
        "PyPI package easy-vqa",
    ),
    "easyvqa-grid": Builtin(
        "vqa", "3 x 3 collages of easyvqa pictures, answers of 1 to 18 words", {"train": 16000, "test": 4000}, "MIT",
        "made at run time from easyvqa",
    ),
    "text": Builtin(
        "text", "Python's language reference (test); docstrings of its standard library (train)",
        {"train": 0, "test": 0}, "PSF-2.0", "the running Python",
    ),
}  # fmt: skip
