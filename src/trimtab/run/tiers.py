"""Named choices of quantization for ``trimtab init --tier`` and the ready recipes of the same names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.core.errors import unknown

Steps = list[dict[str, Any]]
GROUPS = (64, 32, 128, 16)
"""Inputs that share a scale, the best first; smaller ones come first where only quality counts."""
SMALL = (32, 16, 64, 128)
LEAST = (16, 32, 64, 128)
TABLES = ("embedding", "head")


@dataclass(frozen=True)
class Tier:
    """``reason`` in a line; ``weights``: the budget that goes with it; ``steps`` from the parts that a model has and
    the widths of its rows."""

    reason: str
    weights: str
    steps: Callable[[Sequence[str], Sequence[int]], Steps]


def group(widths: Sequence[int], wanted: Sequence[int] = GROUPS) -> int:
    """The first of ``wanted`` that divides every row; -1, a whole row, where none does."""
    return next((size for size in wanted if all(width % size == 0 for width in widths)), -1)


def _fast(parts: Sequence[str], widths: Sequence[int]) -> Steps:
    return [{"finequant": {"bits": 8, "group_size": 64, "targets": list(parts)}}]


def _balanced(parts: Sequence[str], widths: Sequence[int]) -> Steps:
    return _tables_first(parts, widths, "gptq", GROUPS)


def _best(parts: Sequence[str], widths: Sequence[int]) -> Steps:
    return _tables_first(parts, widths, "quantease", SMALL)


def _tables_first(parts: Sequence[str], widths: Sequence[int], method: str, sizes: Sequence[int]) -> Steps:
    """Word table and head in the smallest groups, since an error in a word's row goes through the whole model; then
    the layers by ``method``, on what comes of them."""
    tables, layers = [part for part in parts if part in TABLES], [part for part in parts if part not in TABLES]
    chosen = (("gptq", tables, LEAST), (method, layers, sizes))
    return [
        {name: {"bits": 4, "group_size": group(widths, wanted), "targets": on}} for name, on, wanted in chosen if on
    ]


TIERS: Mapping[str, Tier] = {
    "fast": Tier("8 bits rounded to nearest, outliers in groups of their own: no calibration, little lost, half of the "
                 "bytes", "0.6x", _fast),
    "balanced": Tier("GPTQ at 4 bits on all parts, embedding and head included: little is lost at a third of the bytes",
                     "0.4x", _balanced),
    "best": Tier("QuantEase at 4 bits from GPTQ's codes, in smaller groups: each layer loses least on its inputs, "
                 "longer to make", "0.4x", _best),
}  # fmt: skip
DEFAULT = "balanced"


def tier(name: str) -> Tier:
    """A tier by name. Raises BadInput with the nearest one."""
    if name not in TIERS:
        raise unknown("--tier", name, TIERS)
    return TIERS[name]
