"""How a number is written: three significant digits, decimal prefixes, shares as per cent, differences in points.

A ratio is always after over before, ``0.29x``. Minus is the typographic sign; what goes to a terminal swaps it back.
"""

from __future__ import annotations

import math

Spread = tuple[float, float]
MINUS = "\u2212"


def rounded(value: float, digits: int = 3) -> float:
    """``value`` to ``digits`` significant digits."""
    return float(f"{value:.{digits}g}")


def plain(value: float, digits: int = 3) -> str:
    """A number to ``digits`` significant digits, thousands apart, never in exponent form where a person can read it."""
    if not math.isfinite(value):
        return "not finite"
    value = rounded(value, digits)
    size = abs(value)
    if size and (size >= 1e15 or size < 1e-4):
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    places = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
    return f"{value:,.{places}f}".replace("-", MINUS)


STEPS = {
    "bytes": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "J": ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
    "flop": ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP")),
    "count": ((1e9, "billion"), (1e6, "million"), (1.0, "")),
    "op/s": ((1e12, "TOP/s"), (1e9, "GOP/s"), (1e6, "MOP/s"), (1.0, "OP/s")),
    "bytes/s": ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1.0, "B/s")),
}
SPELLINGS = {"flops": "flop", "FLOP": "flop", "parameters": "count"}


def unit_of(unit: str) -> str:
    """The spelling of a unit that ``STEPS`` has."""
    return SPELLINGS.get(unit, unit)


def say(value: float | None, unit: str) -> str:
    """A value with its unit: ``say(2.13e6, "bytes") == "2.13 MB"``, ``say(0.973, "share") == "97.3 %"``."""
    if value is None:
        return "not measured"
    if not math.isfinite(value):
        return "not finite"
    if unit == "share":
        return _percent(value)
    unit = unit_of(unit)
    if unit in STEPS and value:
        near = rounded(value)
        scale, name = next(((s, n) for s, n in STEPS[unit] if abs(near) >= s), STEPS[unit][-1])
        if unit == "s" and value >= 120:
            return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"
        if scale == 1.0 and unit in ("bytes", "count") and value == int(value):
            return f"{int(value):,} {name}".strip()
        return f"{plain(value / scale)} {name}".strip()
    shown = unit if unit not in ("count", "flop") else ""
    return (
        f"{int(value):,} {shown}".strip()
        if value == int(value) and abs(value) < 1e6
        else f"{plain(value)} {shown}".strip()
    )


def _percent(share: float) -> str:
    """Per cent with one decimal, two where one would round a near miss to 0 or 100."""
    text = f"{100 * share:.1f}"
    if text in ("100.0", "0.0") and share not in (0.0, 1.0):
        text = f"{100 * share:.2f}"
    return f"{text} %".replace("-", MINUS)


def interval(spread: Spread | None, unit: str) -> str:
    """``96.5 to 98.0 %``: the unit once where both ends share it, empty where there is no interval."""
    if spread is None:
        return ""
    low, high = (say(end, unit) for end in spread)
    number, _, tail = low.partition(" ")
    return f"{number} to {high}" if tail and high.endswith(" " + tail) else f"{low} to {high}"


def times(ratio: float) -> str:
    """After over before: ``0.29x``, ``1.04x``, ``1.4x``, ``12x``."""
    if not math.isfinite(ratio):
        return "not finite"
    if 0 < ratio < 0.1:
        return f"{plain(ratio, 2)}x"
    near_one = f"{ratio:.2f}x" if ratio < 1.095 else f"{ratio:.1f}x"
    return near_one if ratio < 9.95 else f"{ratio:,.0f}x"


def points(difference: float) -> str:
    """A difference of two shares in points, with its sign: ``+0.3 pt``."""
    text = f"{100 * difference:+.1f}"
    if text in ("+0.0", "-0.0") and difference:
        text = f"{100 * difference:+.2f}"
    return ("0.0" if not difference else text).replace("-", MINUS) + " pt"
