"""What ``make bench-quantize`` is held to, and whether a run meets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Target(NamedTuple):
    """``figure`` and its 95 % ``bound`` (None: it has none) by their keys in the last line, and what is ``wanted``: at
    least so much, or at most where ``least`` is False."""

    figure: str
    bound: str | None
    wanted: float
    least: bool
    about: str


def _speed(job: str, wanted: float) -> Target:
    return Target(f"{job}_speedup", f"{job}_speedup_low", wanted, True, f"{job}: times as fast as llm-compressor")


def _fastest(job: str) -> Target:
    return Target(f"{job}_speedup_best_peer", f"{job}_speedup_best_peer_low", 1.0, True,
                  f"{job}: times as fast as the fastest peer")  # fmt: skip


def _perplexity(job: str) -> Target:
    return Target(f"{job}_ppl_ratio", f"{job}_ppl_ratio_high", 1.005, False, f"{job}: perplexity over the best peer's")


def _peak(job: str) -> Target:
    return Target(f"{job}_peak_ratio", None, 1.0, False, f"{job}: peak memory over the lowest peer's")


ALIKE = ("gptq4", "gptq3", "awq4", "wanda")
"""Jobs that peers do as ours does; ``full4`` does more."""
TARGETS = (
    _speed("gptq4", 4.0), _speed("gptq3", 4.0), _speed("awq4", 5.0), _speed("wanda", 2.0), *map(_fastest, ALIKE),
    Target("forwards", None, 2.0, False, "gptq4: the whole job over one forward of the library"),
    *map(_perplexity, ("gptq4", "gptq3", "full4")),
    Target("folder_ratio", None, 0.45, False, "full4: weight files over llm-compressor's"),
    *map(_peak, (*ALIKE, "full4")),
)  # fmt: skip


def judged(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each target with its figure and bound, and whether either meets it; None where no peer was there to compare."""
    rows = []
    for target in TARGETS:
        figure, bound = found.get(target.figure), found.get(target.bound) if target.bound else None
        rows.append({"target": target.about, "wanted": target.wanted, "at_least": target.least, "figure": figure,
                     "bound": bound, "met": meets(figure, target), "met_at_bound": meets(bound, target)})  # fmt: skip
    return rows


def meets(value: float | None, target: Target) -> bool | None:
    if value is None:
        return None
    return value >= target.wanted if target.least else value <= target.wanted


def lines(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The table of ``judged``, what was not measured left out."""
    words = {True: "met", False: "missed", None: ""}
    return [
        [row["target"], f"{'at least' if row['at_least'] else 'at most'} {row['wanted']:g}", f"{row['figure']:.3f}",
         "" if row["bound"] is None else f"{row['bound']:.3f}", words[row["met"]], words[row["met_at_bound"]]]
        for row in rows if row["figure"] is not None
    ]  # fmt: skip
