"""What calibration gathers at a linear's input, once, for every method that needs it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

KINDS = ("text", "image", "video", "padding", "audio")
TEXT, IMAGE, VIDEO, PADDING, AUDIO = range(len(KINDS))


@runtime_checkable
class Stat(Protocol):
    """A statistic over rows; merging in a fixed order equals adding in that order, to 1e-5."""

    def add(self, x: Float[Tensor, "tokens in"], kinds: Integer[Tensor, " tokens"]) -> None: ...
    def merge(self, other: Stat) -> None: ...
    def read(self) -> Tensor: ...


class Gram:
    """H = sum of x x^T over the rows that are not padding, float32, (in, in); beside it the sum of |x| and the
    largest |x|, (in,) each, and how many rows of each kind."""

    def __init__(self, width: int) -> None:
        self.total = torch.zeros(width, width)
        self.absolute, self.largest = torch.zeros(width), torch.zeros(width)
        self.seen = torch.zeros(len(KINDS), dtype=torch.int64)

    def add(self, x: Float[Tensor, "tokens in"], kinds: Integer[Tensor, " tokens"]) -> None:
        kept = x[kinds != PADDING].float()
        self.total.addmm_(kept.T, kept)
        self.absolute += kept.abs().sum(0)
        if len(kept):
            self.largest = torch.maximum(self.largest, kept.abs().amax(0))
        self.seen += torch.bincount(kinds.flatten(), minlength=len(KINDS))

    @property
    def rows(self) -> int:
        """How many rows were added, padding left out."""
        return int(self.seen.sum() - self.seen[PADDING])

    def merge(self, other: Stat) -> None:
        if not isinstance(other, Gram):
            raise TypeError(f"merge: got {type(other).__name__}, not a Gram")
        self.total += other.total
        self.absolute += other.absolute
        self.largest = torch.maximum(self.largest, other.largest)
        self.seen += other.seen

    def read(self) -> Float[Tensor, "in in"]:
        return self.total

    def mean_abs(self) -> Float[Tensor, " in"]:
        """The mean size of each input, 0 where no row was seen."""
        found: Tensor = self.absolute / self.seen[:PADDING].sum().clamp(min=1)
        return found
