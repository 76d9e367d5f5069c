"""Some of the rows at a linear's input, of every kind of token, for methods that need them one by one."""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.core.stats import KINDS, PADDING, Stat

MOST = 512
"""Rows of one kind that stay."""
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
"""The step of SplitMix64, as torch's signed numbers have it."""


class Reservoir:
    """Of each kind at most ``most`` of the rows that were added, each as likely as any other (Vitter 1985's sample, by
    sorted keys); padding is left out. ``seen`` counts all rows by kind, as a Gram's does.

    Row i of a kind has the key mixed(seed, kind, i), and the rows of the smallest keys stay, in the order in which they
    came: which they are does not turn on how the rows were cut into calls. ``after``: ``seen`` of the statistic into
    which this one is to be merged, whose rows come first.
    """

    def __init__(self, width: int, most: int = MOST, seed: int = 0, after: Integer[Tensor, " kinds"] | None = None):
        self.width, self.most, self.seed = width, most, seed
        self.begun = torch.zeros(len(KINDS), dtype=torch.int64) if after is None else after.clone()
        self.seen = torch.zeros(len(KINDS), dtype=torch.int64)
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}  # kind -> the number of each row, the rows

    def add(self, x: Float[Tensor, "tokens in"], kinds: Integer[Tensor, " tokens"]) -> None:
        counts = torch.bincount(kinds.flatten(), minlength=len(KINDS))
        for kind in counts.nonzero()[:, 0].tolist():
            if kind != PADDING:
                first = int(self.begun[kind] + self.seen[kind])
                self._join(kind, first + torch.arange(int(counts[kind])), x[kinds == kind])
        self.seen += counts

    def _join(self, kind: int, index: Integer[Tensor, " n"], rows: Float[Tensor, "n in"]) -> None:
        if kind in self.kept:
            index, rows = torch.cat([self.kept[kind][0], index]), torch.cat([self.kept[kind][1], rows])
        if len(index) > self.most:
            keys = mixed((index + ((self.seed * len(KINDS) + kind) << 32)) * GOLDEN)
            stay = keys.argsort(stable=True)[: self.most].sort().values
            index, rows = index[stay], rows[stay]
        self.kept[kind] = index, rows

    def merge(self, other: Stat) -> None:
        """Raises TypeError for another statistic, ValueError for one whose rows do not follow this one's."""
        if not isinstance(other, Reservoir):
            raise TypeError(f"merge: got {type(other).__name__}, not a Reservoir")
        apart = other.begun != self.begun + self.seen
        apart[PADDING] = False
        if apart.any() or (other.most, other.seed) != (self.most, self.seed):
            raise ValueError("merge: the other's rows do not follow this one's; make it with after=begun + seen, and "
                             "the same most and seed")  # fmt: skip
        for kind, (index, rows) in other.kept.items():
            self._join(kind, index, rows)
        self.seen += other.seen

    def of(self, kind: int) -> Float[Tensor, "n in"]:
        """The rows of a kind that stayed, float32."""
        return self.kept[kind][1].float() if kind in self.kept else torch.zeros(0, self.width)

    def read(self) -> Float[Tensor, "n in"]:
        """All rows that stayed, kind by kind."""
        return torch.cat([self.of(kind) for kind in range(len(KINDS))])


def mixed(x: Integer[Tensor, " n"]) -> Integer[Tensor, " n"]:
    """A number of 64 bits that looks random for each of ``x``: the finalizer of SplitMix64 (Steele et al. 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ _right(x, shift)) * (factor - (1 << 64))
    return x ^ _right(x, 31)


def _right(x: Integer[Tensor, " n"], by: int) -> Integer[Tensor, " n"]:
    """Shifted right, zeros from the left."""
    return (x >> by) & ((1 << (64 - by)) - 1)
