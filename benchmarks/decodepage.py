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
from pictures import MODELS
from trimtab.evaluate.ratio import of_repeats, of_windows
from trimtab.measure.machine import facts

CLOSE = 1.01
"""A peer whose perplexity is at most so many times ours is as good."""
DENSE, SEEING = "transformers", "pictures"
LONG = 576
"""Image tokens of a prompt on which a token policy is judged by time."""
MORE = 150e6
"""Bytes that a process may have resident beside 1.15 times its weights and cache."""


def said(
    every: Sequence[Side], settings: dict[str, str], sweep: Any, rows: Any, losses: Any, start: dict[str, int]
) -> dict[str, Any]:
    """All figures of a language model. Without ``losses`` its weights are random, and bits say who is as good."""
    lengths = sorted({row["prompt"] for row in rows})
    sides = {side.name: {"about": side.about, "setting": settings[side.name], "bits": side.bits,
                         **(perplexity(losses, side.name) if losses else {})} for side in every}  # fmt: skip
    ours = [side.name for side in every if side.engine == "ours"]
    return {
        "compared": [against(name, length, sides, rows, ours) for name in ours for length in lengths],
        "peers": sides, "sweep": sweep, "start": start,
        "figures": [figures(name, length, rows) for name in sides for length in lengths],
    }  # fmt: skip


def joined(parts: dict[str, Any]) -> dict[str, Any]:
    """The keys that the last line must have, each the worst over models, prompts and our two forms; ``parts``."""
    texts = [part for name, part in parts.items() if name != SEEING]
    compared = [one for part in texts for one in part["compared"]]
    worst: dict[str, list[float]] = {}
    for one in compared:
        for key, figure in (("decode", "decode_ratio_best_peer"), ("prefill", "prefill_ratio_best_peer")):
            for low in ("", "_low"):
                worst.setdefault(figure + low, []).append(one[key + low])
        worst.setdefault("bandwidth_fraction", []).append(one["bandwidth_fraction"])
        worst.setdefault("resident_ratio", []).append(-one["resident_ratio"])
    for part in texts:
        for one in part["repeated"].values():
            worst.setdefault("repeat_ttft_ratio", []).append(one["low"])
    short = {model.name for model in MODELS if model.tokens < LONG}
    for model, found in parts.get(SEEING, {}).items():
        for one in (value for name, value in found.items() if name.startswith("ours")):
            for key, figure in (("policy", "vlm_latency_ratio_best_peer"), ("equal", "vlm_equal_ratio_best_peer"),
                                ("repeat", "repeat_ttft_ratio"), ("keep25", "keep25_prefill_speedup")):  # fmt: skip
                if key != "keep25" or model not in short:
                    worst.setdefault(figure, []).append(one[key]["low"])
    least = {key: abs(min(values)) for key, values in worst.items()}
    return {**least, "peers": {name: part["peers"] for name, part in parts.items() if name != SEEING}, "parts": parts}


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
    good = [one for one in sides if one not in ours and as_good(sides[one], sides[name])]
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


def as_good(theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    if "over_dense" not in ours:
        return bool(theirs["bits"] >= ours["bits"])
    return bool(theirs["over_dense"] <= CLOSE * ours["over_dense"])


def page(parts: dict[str, Any], given: argparse.Namespace) -> str:
    """The kept file."""
    machine = facts()
    return "\n".join([
        "# Measured: words a second beside other engines", "",
        f"Written by `make bench-decode` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, 2 threads, torch "
        f"{torch.__version__}: {given.tokens} words behind prompts that every engine sees once, {given.rounds} rounds "
        "in turn, medians; lower 95 % bounds in brackets.", "",
        *(line for name, part in parts.items() if name != SEEING for line in text(name, part, given)),
        *(line for name, found in parts.get(SEEING, {}).items() for line in seen(name, found)),
    ])  # fmt: skip


def text(name: str, told: dict[str, Any], given: argparse.Namespace) -> list[str]:
    """The tables of a language model."""
    random = "over_dense" not in next(iter(told["peers"].values()))
    which = (
        "Random weights: beside ours stand engines whose weights have at least as many bits." if random else
        f"Perplexity over that of 16 bits on {given.windows} windows of Python's language reference; llama.cpp's file "
        f"is the one that the weights come from; beside ours stand engines of at most {CLOSE} times our perplexity."
    )  # fmt: skip
    return [
        f"## {name}", "", which, "",
        "| engine | setting | perplexity over 16 bits (at most) | "
        + " | ".join(f"{length} tokens: first word, s; words a second" for length in given.prompts) + " |",
        "| --- | --- | ---: |" + " ---: |" * len(given.prompts),
        *(f"| {side} | {one['setting']} | "
          + ("" if random else f"{one['over_dense']:.3f} ({one['at_most']:.3f})") + " | " + " | ".join(
            f"{row['first']:.3f}; {row['rate']:.1f}" for row in told["figures"] if row["side"] == side) + " |"
          for side, one in told["peers"].items()), "",
        "| ours | prompt | words: times as fast as | prompt: times as fast as | of the bandwidth | MB a word "
        "| resident MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *("| {side} | {prompt} | {decode:.2f} ({decode_low:.2f}) {decode_peer} | {prefill:.2f} ({prefill_low:.2f}) "
          "{prefill_peer} | {bandwidth_fraction:.2f} | {megabytes:.0f} | {here:.0f} |".format(
              megabytes=one["read"] / 1e6, here=one["resident"] / 1e6, **one) for one in told["compared"]), "",
        "A beginning of 404 tokens that was read before, and 16 new ones: " + "; ".join(
            f"{side}: {1e3 * one['warm']:.0f} ms to the first word for {1e3 * one['cold']:.0f}, {one['value']:.1f} "
            f"({one['low']:.1f}) times as fast" for side, one in told["repeated"].items()) + ".", "",
        "The sweep from which each setting was chosen (404 tokens, 32 words):", "",
        "| engine | setting | first word, s | words a second |", "| --- | --- | ---: | ---: |",
        *(f"| {row['side']} | {row['setting']} | " + (f"{row['first']:.3f} | {row['rate']:.1f} |" if "first" in row
          else "does not run | |") for row in told["sweep"] if row["setting"]), "",
    ]  # fmt: skip


WHAT = {
    "policy": "with its policy", "equal": "with all tokens", "repeat": "a picture that comes again, to the first word",
    "keep25": "decoder's prompt: a quarter of the image tokens", "keep100": "decoder's prompt: keep 1.0",
}  # fmt: skip


def seen(name: str, found: dict[str, Any]) -> list[str]:
    """The tables of a model that sees."""
    ours = [side for side in found if side.startswith("ours")]
    return [
        f"## {name}: a new picture in, a short answer out", "",
        "| engine | seconds |", "| --- | ---: |",
        *(f"| {side} | {seconds:.3f} |" for side, seconds in found["whole"].items()), "",
        f"Times as fast as {found['best_peer']} (the first two rows), as a picture that is new, as all tokens:", "",
        "| | " + " | ".join(ours) + " |", "| --- |" + " ---: |" * len(ours),
        *(f"| {what} | " + " | ".join(f"{found[side][key]['value']:.2f} ({found[side][key]['low']:.2f})"
                                      for side in ours) + " |" for key, what in WHAT.items()), "",
    ]  # fmt: skip
