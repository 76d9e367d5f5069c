"""How a figure is named, rounded and compared in front of a reader.

Three significant digits, decimal prefixes, shares as per cent with one decimal, differences of shares in points. A
ratio is always after over before, ``0.29x``; one that is worse says so in capitals, ``1.4x SLOWER``, so that colour is
never the only sign.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

Tone = Literal["", "good", "bad", "warn", "quiet"]
Spread = tuple[float, float]
MINUS = "\u2212"


@dataclass(frozen=True)
class Kind:
    """A family of figures by the start of their name: what a reader calls it, its unit and which way is better."""

    prefix: str
    label: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    worse: str = "WORSE"


KINDS = (
    Kind("accuracy", "Accuracy", "share", "higher", "LOWER"),
    Kind("perplexity", "Perplexity", "", "lower", "WORSE"),
    Kind("bytes.weights16", "Weights before trimming, in 16 bits", "bytes", "neither"),
    Kind("bytes.weights", "Weights", "bytes", "lower", "LARGER"),
    Kind("bytes", "Bytes", "bytes", "lower", "LARGER"),
    Kind("parameters", "Parameters", "count", "neither"),
    Kind("flops", "arithmetic", "flop", "lower", "MORE"),
    Kind("latency", "time", "s", "lower", "SLOWER"),
    Kind("memory", "memory", "bytes", "lower", "MORE"),
    Kind("seconds", "Seconds", "s", "neither"),
)
UNKNOWN = Kind("", "", "", "neither")
CONTROLS = {"missing_image": "image taken away", "blind_table": "from the question alone"}


def kind(name: str) -> Kind:
    """The kind of a figure; one that nobody described keeps its own name and takes no side, as controls do."""
    found = next((one for one in KINDS if name == one.prefix or name.startswith(one.prefix + ".")), UNKNOWN)
    return replace(found, better="neither") if name.rpartition(".")[2] in CONTROLS else found


def label(name: str) -> str:
    """``latency.prefill.b8`` -> ``Prefill time, batch 8``; an unknown name stays as it is."""
    found = kind(name)
    if not found.label:
        return name
    first, *rest = [part for part in name[len(found.prefix) :].split(".") if part] or [""]
    rest = [CONTROLS.get(part, re.sub(r"^b(\d+)$", r"batch \1", part)) for part in rest]
    if found.label[0].islower() and first:  # what it is the time, arithmetic or memory of comes before the word
        per = " per token" if name.startswith("latency.decode") else ""
        return ", ".join([f"{first.capitalize()} {found.label}{per}", *rest])
    return ", ".join(part for part in (found.label.capitalize() if not first else found.label, first, *rest) if part)


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
    "flop": ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP")),
    "count": ((1e9, "billion"), (1e6, "million"), (1.0, "")),
}


def say(value: float | None, unit: str) -> str:
    """A value with its unit: ``say(2.13e6, "bytes") == "2.13 MB"``, ``say(0.973, "share") == "97.3 %"``."""
    if value is None:
        return "not measured"
    if not math.isfinite(value):
        return "not finite"
    if unit == "share":
        return _percent(value)
    unit = {"flops": "flop", "FLOP": "flop", "parameters": "count"}.get(unit, unit)
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


def tick(value: float, unit: str) -> str:
    """``say`` without zeros after the point: ``5 MB``, for an axis, where the marks themselves are round."""
    return re.sub(r"(\.\d*?)0+(?!\d)", r"\1", say(value, unit)).replace(". ", " ").rstrip(".")


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


def change(
    name: str, before: float | None, after: float | None, spreads: tuple[Spread | None, Spread | None] = (None, None)
) -> tuple[str, Tone]:
    """What changed, in words, and its tone. Overlapping intervals make no claim of better or worse."""
    if before is None or after is None:
        return "", "quiet"
    if not (math.isfinite(before) and math.isfinite(after)):
        return "NOT FINITE", "bad"
    found = kind(name)
    share = found.unit == "share"
    if not share and before == 0:
        return ("same", "quiet") if after == 0 else ("from zero", "warn")
    text = points(after - before) if share else times(after / before)
    if after == before:
        return "same", "quiet"
    if found.better == "neither":
        return text, "quiet"
    first, second = spreads
    if first and second and first[0] <= second[1] and second[0] <= first[1]:
        return f"{text}, intervals overlap", "quiet"
    worse = (after > before) == (found.better == "lower")
    return (f"{text} {found.worse}", "bad") if worse else (text, "good")
