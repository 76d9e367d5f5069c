"""What calibration gathers at a linear's input, once, for every method that needs it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.core.native import add_sizes
from trimtab.core.products import add_moment, mirror

KINDS = ("text", "image", "video", "padding", "audio")
TEXT, IMAGE, VIDEO, PADDING, AUDIO = range(len(KINDS))


@runtime_checkable
class Stat(Protocol):
    """A statistic over rows; merging in a fixed order equals adding in that order, to 1e-5."""

    def add(self, x: Float[Tensor, "tokens in"], kinds: Integer[Tensor, " tokens"]) -> None: ...
    def merge(self, other: Stat) -> None: ...
    def read(self) -> Tensor: ...


class Gram:
    """H = sum of w_k x x^T over the rows that are not padding, k the kind of x, float32, (in, in); beside it the sums
    of w_k |x| and w_k x^2 and the largest |x| of what counts, (in,) each, and how many rows of each kind. ``weights``,
    (kinds,): what a row of each kind counts, all 1 where None. ``sample``: takes the rows too, for methods that want
    some of them. ``most``: H is of that many of the rows that count, the first, all where None: it is most of the work,
    and some methods use no more than the sums beside it."""

    def __init__(
        self,
        width: int,
        weights: Float[Tensor, " kinds"] | None = None,
        sample: Stat | None = None,
        most: int | None = None,
    ) -> None:
        self.total = torch.zeros(width, width)
        self.whole = True
        """Whether ``total`` has what is above its diagonal: only what is below is summed, and ``read`` mirrors it."""

        self.absolute, self.squares, self.largest = torch.zeros(3, width)
        self.seen = torch.zeros(len(KINDS), dtype=torch.int64)
        self.derived: dict[str, Tensor] = {}
        """What was computed from H, for the linears that share it; forgotten when H grows."""

        self.weights, self.sample, self.most = weights, sample, most

    def add(self, x: Float[Tensor, "tokens in"], kinds: Integer[Tensor, " tokens"]) -> None:
        self.derived.clear()
        self.whole = False
        room = None if self.most is None else max(0, self.most - self.rows)
        for weight, among in self._alike(kinds):
            kept = x if among.all() else x[among]
            add_moment(self.total, kept[:room], weight)
            room = None if room is None else max(0, room - len(kept))
            size, square = torch.zeros(2, len(self.absolute))
            add_sizes(size, square, self.largest, kept)
            self.absolute += weight * size
            self.squares += weight * square
        self.seen += torch.bincount(kinds.flatten(), minlength=len(KINDS))
        if self.sample is not None:
            self.sample.add(x, kinds)

    @property
    def rows(self) -> int:
        """How many rows were added that count, padding left out."""
        return int(self.seen[self._counts() > 0].sum())

    def _alike(self, kinds: Integer[Tensor, " tokens"]) -> list[tuple[float, Bool[Tensor, " tokens"]]]:
        """Where the rows are that count the same and how much, padding and what counts nothing left out."""
        counts = self._counts()
        return [(weight, (counts == weight)[kinds]) for weight in counts.unique().tolist() if weight]

    def _counts(self) -> Float[Tensor, " kinds"]:
        """What a row of each kind counts: nothing for padding."""
        counts = torch.ones(len(KINDS)) if self.weights is None else self.weights.clone()
        counts[PADDING] = 0
        return counts

    def merge(self, other: Stat) -> None:
        if not isinstance(other, Gram):
            raise TypeError(f"merge: got {type(other).__name__}, not a Gram")
        self.derived.clear()
        if not torch.equal(self._counts(), other._counts()):
            raise ValueError(f"merge: weights differ: {other._counts().tolist()}, not {self._counts().tolist()}")
        if self.most is None or self.rows < self.most:
            self.total += other.total
            self.whole = self.whole and other.whole
        self.absolute += other.absolute
        self.squares += other.squares
        if self.sample is not None and other.sample is not None:
            self.sample.merge(other.sample)
        self.largest = torch.maximum(self.largest, other.largest)
        self.seen += other.seen

    def read(self) -> Float[Tensor, "in in"]:
        """H, of all rows or of the first ``most``."""
        if not self.whole:
            mirror(self.total)
            self.whole = True
        return self.total

    def mean_abs(self) -> Float[Tensor, " in"]:
        """The weighted mean size of each input, 0 where no row was seen."""
        count = float((self._counts().double() * self.seen).sum())
        return self.absolute / (count or 1.0)
