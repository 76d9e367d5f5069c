"""What a figure is called, which way is better, and what changed.

A change for the worse says so in capitals, ``1.4x SLOWER``, so that colour is never the only sign.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from trimtab.report.say import Spread, points, times

Tone = Literal["", "good", "bad", "warn", "quiet"]


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
    Kind("bytes.cache", "Cache of keys and values", "bytes", "lower", "LARGER"),
    Kind("bytes", "Bytes", "bytes", "lower", "LARGER"),
    Kind("parameters", "Parameters", "count", "neither"),
    Kind("flops", "arithmetic", "flop", "lower", "MORE"),
    Kind("latency", "time", "s", "lower", "SLOWER"),
    Kind("throughput", "throughput", "items/s", "higher", "LOWER"),
    Kind("energy", "energy", "J", "lower", "MORE"),
    Kind("power", "power", "W", "neither"),
    Kind("memory.activations", "activation memory", "bytes", "lower", "MORE"),
    Kind("memory", "memory", "bytes", "lower", "MORE"),
    Kind("seconds", "Seconds", "s", "neither"),
)
UNKNOWN = Kind("", "", "", "neither")
CONTROLS = {"missing": "image missing", "blind_table": "from the question alone"}


def kind(name: str) -> Kind:
    """The kind of a figure; one that nobody described keeps its own name and takes no side, as controls do."""
    found = next((one for one in KINDS if name == one.prefix or name.startswith(one.prefix + ".")), UNKNOWN)
    return replace(found, better="neither") if shown_as(name) in CONTROLS else found


def shown_as(name: str) -> str:
    """What was shown in place of the task's pictures, as the third part of an accuracy's name says it (``noise3``); a
    control; empty for the task as it is, and for what is no accuracy."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[2] if first == "accuracy" else ""


def view(shown: str) -> str:
    """``noise3`` -> ``noise, severity 3``."""
    words = CONTROLS | {"clean": "as it is, the same questions"}
    return words.get(shown, re.sub(r"^([a-z_]+)([1-5])$", r"\1, severity \2", shown))


def _batch(part: str) -> str:
    return re.sub(r"^b(\d+)$", r"batch \1", part)


def label(name: str) -> str:
    """``latency.prefill.b8`` -> ``Prefill time, batch 8``; an unknown name stays as it is."""
    found = kind(name)
    if not found.label:
        return name
    first, *rest = [part for part in name[len(found.prefix) :].split(".") if part] or [""]
    rest = [view(part) if shown_as(name) else _batch(part) for part in rest]
    first = _batch(first)
    if found.label[0].islower() and first:  # what it is the time, arithmetic or memory of comes before the word
        per = " per token" if name.startswith("latency.decode") else ""
        return ", ".join([f"{first.capitalize()} {found.label}{per}", *rest])
    return ", ".join(part for part in (found.label.capitalize() if not first else found.label, first, *rest) if part)


class Change(NamedTuple):
    """What changed in words, how it is meant, and what qualifies it."""

    text: str
    tone: Tone = "quiet"
    note: str = ""


def change(
    name: str, before: float | None, after: float | None, spreads: tuple[Spread | None, Spread | None] = (None, None)
) -> Change:
    """From ``before`` to ``after``. Overlapping intervals make no claim of better or worse."""
    if before is None or after is None:
        return Change("")
    if not (math.isfinite(before) and math.isfinite(after)):
        return Change("NOT FINITE", "bad")
    if after == before:
        return Change("same")
    found = kind(name)
    share = found.unit == "share"
    if not share and before == 0:
        return Change("from zero", "warn")
    text = points(after - before) if share else times(after / before)
    if found.better == "neither":
        return Change(text)
    first, second = spreads
    if first and second and first[0] <= second[1] and second[0] <= first[1]:
        return Change(text, "quiet", "intervals overlap")
    worse = (after > before) == (found.better == "lower")
    return Change(f"{text} {found.worse}", "bad") if worse else Change(text, "good")
