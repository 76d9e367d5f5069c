"""The amounts that a budget is written in: ``1pt``, ``2%``, ``0.4x``, ``160MB``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trimtab.core.errors import BadInput

UNITS = {"pt": 0.01, "%": 0.01, "x": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "b": 1.0, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Amount:
    """``value`` in the base unit: a share for pt and %, a ratio for x, bytes or seconds otherwise."""

    value: float
    unit: str
    text: str


def amount(text: str | float | int, key: str, units: tuple[str, ...]) -> Amount:
    """Read an amount for ``key``. Raises BadInput with the units that the key takes."""
    accepted = ", ".join(f"'{example}{unit}'" for example, unit in zip(("1", "0.4", "160", "2"), units, strict=False))
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z%]+)\s*", str(text))
    if not found or found[2].lower() not in units:
        raise BadInput(f"{key}: got {text!r}; accepted: a number and a unit such as {accepted}")
    unit = found[2].lower()
    return Amount(float(found[1]) * UNITS[unit], unit, str(text).strip())
