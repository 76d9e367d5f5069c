"""What ``make bench-decode`` says: who is compared with whom, by how much, and the kept page."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean, median
from typing import Any

import torch

from decoding import Side
from trimtab.evaluate.ratio import of_repeats, of_windows
from trimtab.measure.machine import facts

CLOSE = 1.01
"""A peer whose perplexity is at most so many times ours is as good."""
DENSE = "transformers"
MORE = 150e6
"""Bytes that a process may have resident beside 1.15 times its weights and cache."""


def said(
    every: Sequence[Side], settings: dict[str, str], sweep: Any, rows: Any, losses: Any, start: dict[str, int]
) -> dict[str, Any]:
    """All figures, and the keys that the last line must have: the worst over prompts and our two forms."""
    lengths = sorted({row["prompt"] for row in rows})
    sides = {side.name: {"about": side.about, "setting": settings[side.name], **perplexity(losses, side.name)}
             for side in every}  # fmt: skip
    ours = [side.name for side in every if side.engine == "ours"]
    compared = [against(name, length, sides, rows, ours) for name in ours for length in lengths]
    return {
        "decode_ratio_best_peer": min(one["decode"] for one in compared),
        "decode_ratio_best_peer_low": min(one["decode_low"] for one in compared),
        "prefill_ratio_best_peer": min(one["prefill"] for one in compared),
        "prefill_ratio_best_peer_low": min(one["prefill_low"] for one in compared),
        "bandwidth_fraction": min(one["bandwidth_fraction"] for one in compared),
        "resident_ratio": max(one["resident_ratio"] for one in compared),
        "compared": compared, "peers": sides, "sweep": sweep, "start": start,
        "figures": [figures(name, length, rows) for name in sides for length in lengths],
    }  # fmt: skip


def perplexity(losses: Any, name: str) -> dict[str, float]:
    """Its own, and over the library's in 16 bits on the same places, with the upper 95 % bound."""
    which = "all" if "all" in losses[name] else "some"
    ratio = of_windows(losses[DENSE][which], losses[name][which])
    return {"perplexity": math.exp(fmean(losses[name][which])), "over_dense": ratio.value, "at_most": ratio.high}


def of(name: str, length: int, rows: Any, key: str) -> list[float]:
    return [row[key] for row in rows if row["side"] == name and row["prompt"] == length]


def figures(name: str, length: int, rows: Any) -> dict[str, Any]:
    return {"side": name, "prompt": length, "rate": median(of(name, length, rows, "rate")),
            "first": median(of(name, length, rows, "first"))}  # fmt: skip


def against(name: str, length: int, sides: Any, rows: Any, ours: Sequence[str]) -> dict[str, Any]:
    """Ours beside the fastest peers that are as good: one for the words, one for the prompt."""
    good = [one for one in sides if one not in ours
            and sides[one]["over_dense"] <= CLOSE * sides[name]["over_dense"]]  # fmt: skip
    made: dict[str, Any] = {"side": name, "prompt": length}
    for figure, key in (("decode", "after"), ("prefill", "first")):
        best = min(good, key=lambda one: median(of(one, length, rows, key)))
        ratio = of_repeats(of(name, length, rows, key), of(best, length, rows, key))
        made |= {f"{figure}_peer": best, figure: ratio.value, f"{figure}_low": ratio.low}
    mine = [row for row in rows if row["side"] == name and row["prompt"] == length]
    made["bandwidth_fraction"] = median(row["rate"] * row["read"] / row["bandwidth"] for row in mine)
    made["bandwidth"], made["read"] = (median(row[key] for row in mine) for key in ("bandwidth", "read"))
    made["resident"] = max(row["resident"] for row in mine)
    made["resident_ratio"] = made["resident"] / (made["read"] + MORE)
    return made


def page(told: dict[str, Any], given: argparse.Namespace) -> str:
    """The kept file."""
    machine = facts()
    return "\n".join([
        "# Measured: words a second beside other engines", "",
        f"Written by `make bench-decode` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, 2 threads, torch "
        f"{torch.__version__}: Gemma 3 270M, {given.tokens} words behind prompts that every engine sees once, "
        f"{given.rounds} rounds in turn, medians; perplexity over that of 16 bits on {given.windows} windows of "
        "Python's language reference. llama.cpp's file is the one that the weights come from.", "",
        "| engine | setting | perplexity over 16 bits (at most) | "
        + " | ".join(f"{length} tokens: first word, s; words a second" for length in given.prompts) + " |",
        "| --- | --- | ---: |" + " ---: |" * len(given.prompts),
        *(f"| {name} | {side['setting']} | {side['over_dense']:.3f} ({side['at_most']:.3f}) | " + " | ".join(
            f"{one['first']:.3f}; {one['rate']:.1f}" for one in told["figures"] if one["side"] == name) + " |"
          for name, side in told["peers"].items()), "",
        f"Against the fastest engine whose perplexity is at most {CLOSE} of ours (lower 95 % bounds):", "",
        "| ours | prompt | words: times as fast as | prompt: times as fast as | of the bandwidth | MB a word "
        "| resident MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *("| {side} | {prompt} | {decode:.2f} ({decode_low:.2f}) {decode_peer} | {prefill:.2f} ({prefill_low:.2f}) "
          "{prefill_peer} | {bandwidth_fraction:.2f} | {megabytes:.0f} | {here:.0f} |".format(
              megabytes=one["read"] / 1e6, here=one["resident"] / 1e6, **one) for one in told["compared"]), "",
        "The sweep from which each setting was chosen (404 tokens, 32 words):", "",
        "| engine | setting | first word, s | words a second |", "| --- | --- | ---: | ---: |",
        *(f"| {row['side']} | {row['setting']} | " + (f"{row['first']:.3f} | {row['rate']:.1f} |" if "first" in row
          else "does not run | |") for row in told["sweep"] if row["setting"]), "",
    ])  # fmt: skip
