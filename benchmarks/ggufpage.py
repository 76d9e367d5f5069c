"""What ``make bench-gguf`` tells of its rows: the table, the kept page, the figures of its last line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from trimtab.evaluate.shares import wilson
from trimtab.measure.machine import facts

NAMES = {"easyvqa": "vlm", "easyvqa-grid": "vlm_grid", "text": "lm"}
"""What is asked, and how its figures are called in the last line."""
HEAD = ("model", "asked", "arm", "MB", "equal", "equal in its order", "here", "in llama.cpp", "ratio")


def cells(row: dict[str, Any]) -> list[str]:
    """A line of the table."""

    def share(count: int) -> str:
        low, high = wilson(count, row["places"])
        return f"{count} of {row['places']}, {100 * count / row['places']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"

    first = [row["model"], row["asked"], row["arm"], f"{row['bytes'] / 1e6:.2f}", share(row["equal"])]
    if row["asked"] != "text":
        return [*first, share(row["equal_in_order"]), share(row["right"]), share(row["right_there"]), ""]
    return [*first, "", f"perplexity {row['perplexity']:.3f}", f"perplexity {row['perplexity_there']:.3f}",
            "{ratio:.4f} ({ratio_low:.4f} to {ratio_high:.4f})".format(**row)]  # fmt: skip


def said(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of every row by name: what was asked, which figure, and of which bits where it was rounded."""
    found: dict[str, Any] = {}
    for row in rows:
        figures = {"bytes": row["bytes"]}
        if row["asked"] == "text":
            kept = ("perplexity", "ratio", "tokens_per_second")
            figures |= {"tokens_equal": row["equal"] / row["places"]} | {key: row[key] for key in kept}
            figures["perplexity_llamacpp"] = row["perplexity_there"]
        else:
            shares = {"answers_equal": "equal", "answers_equal_in_order": "equal_in_order", "accuracy": "right",
                      "accuracy_llamacpp": "right_there"}  # fmt: skip
            figures |= {name: row[key] / row["places"] for name, key in shares.items()}
        end = "" if row["bits"] is None else f"_{row['bits']}bit"
        found |= {f"{NAMES[row['asked']]}_{name}{end}": value for name, value in figures.items()}
    return found


def page(table: Sequence[Sequence[str]], given: argparse.Namespace, engine: str) -> str:
    """The kept file."""
    machine, body = facts(), [HEAD, ["---", "---", "---", "---:", *["---"] * (len(HEAD) - 4)], *table]
    return "\n".join([
        "# Measured: GGUF files in llama.cpp", "",
        f"Written by `make bench-gguf` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads, torch {torch.__version__}, llama.cpp as {engine}: each artifact in bfloat16 beside its own export, "
        f"asked the same: {given.questions:,} test questions of a task with their pictures, or (text) the tokens at "
        f"every {given.every}th place of {given.windows} windows of {given.length} tokens of Python's language "
        "reference. `8 bits`, `4 bits`: round-to-nearest in groups of 32, symmetric (`Q8_0`, `Q4_0` in the file), word "
        "table and head in 8 bits. `as it came` is the control: the same 16-bit numbers on both sides. MB: of the GGUF "
        "files. Equal: answers to the letter, or likeliest next tokens; in its order: where our tower takes a "
        "picture's tokens as llama.cpp's graph does, the class token behind the patches, positions and shown rows as "
        "if it stood before them. Here and in llama.cpp: right answers, or perplexity. Ratio: llama.cpp's perplexity "
        "by ours, by pairs of windows, with its one-sided 95 % bounds, each alone; other intervals: 95 %, Wilson. No "
        "speed is kept here: the command's last line has llama.cpp's tokens a second.", "",
        *("| " + " | ".join(line) + " |" for line in body), "",
    ])  # fmt: skip
