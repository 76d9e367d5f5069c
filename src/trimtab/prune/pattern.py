"""Which entries of a matrix stay, given a score for each: the best of every row, or n of every m in a row."""

from __future__ import annotations

import re
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trimtab.core.sparse import masked_bits

FEW = 8
"""Entries up to which each is compared with each, which is faster than sorting so few."""
PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


def parse(pattern: str) -> tuple[int, int]:
    """(n, m) of "n:m". Raises ValueError for anything else, and where n is not below m."""
    found = PATTERN.fullmatch(pattern)
    if found is None or int(found[1]) >= int(found[2]):
        raise ValueError(f"pattern: got {pattern!r}; accepted: 'n:m', n of every m weights stay (2:4, 4:8)")
    return int(found[1]), int(found[2])


def check(keep: float, pattern: str | None, width: int) -> None:
    """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
    if width % 8:
        raise ValueError(f"keep: a row of {width}; 8 must divide it, since the mask is stored in bytes")
    if pattern is not None:
        n, m = parse(pattern)
        if width % m:
            raise ValueError(f"pattern: got {pattern!r} for a row of {width}, which {m} does not divide")
        if keep != n / m:
            raise ValueError(f"keep: got {keep} with pattern {pattern!r}; it keeps {n / m}")
    elif not 0 < keep <= 1:
        raise ValueError(f"keep: got {keep}; accepted: above 0, at most 1 (the share of each row's weights that stays)")


def most(keep: float, width: int) -> int:
    """How many entries of a row of ``width`` stay: rounded half up, at least one."""
    return min(width, max(1, int(keep * width + 0.5)))


def best(score: Float[Tensor, "*rows n"], count: int) -> Bool[Tensor, "*rows n"]:
    """True at the ``count`` best-scored of the last axis; scores are numbers. Ties go to the earlier entry."""
    size = score.shape[-1]
    if size > FEW:
        order = score.argsort(dim=-1, descending=True, stable=True)[..., :count]
        return torch.zeros(score.shape, dtype=torch.bool).scatter_(-1, order, True)
    columns, better = score.unbind(-1), [torch.zeros(score.shape[:-1], dtype=torch.uint8) for _ in range(size)]
    for i, j in combinations(range(size), 2):
        behind = columns[j] > columns[i]
        better[i] += behind
        better[j] += ~behind
    return torch.stack(better, -1) < count


def kept(score: Float[Tensor, "rows in"], keep: float, pattern: str | None) -> Bool[Tensor, "rows in"]:
    """True at the best-scored entries: keep x in of every row (see ``most``), or n of every m in a row."""
    if pattern is None:
        return best(score, most(keep, score.shape[1]))
    count, size = parse(pattern)
    groups = score.unflatten(1, (-1, size))
    return best(groups, count).flatten(1)


def stored(rows: int, width: int, keep: float) -> int:
    """Bits of a matrix of which so much stays: 16 for each entry that does, and where it is."""
    return masked_bits(rows, width, rows * most(keep, width))
