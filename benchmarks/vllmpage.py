"""What ``make bench-vllm`` tells of its rows: the table and the kept page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from trimtab.evaluate.shares import wilson
from trimtab.measure.machine import facts

HEAD = ("model", "written as", "MB", "equal", "here", "in vLLM", "ratio")


def cells(row: dict[str, Any]) -> list[str]:
    """A line of the table."""

    def share(count: int) -> str:
        low, high = wilson(count, row["places"])
        return (
            f"{count:,} of {row['places']:,}, {100 * count / row['places']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        )

    if row["asked"] is None:
        return [row["model"], row["arm"], "", f"not exported: {row['why'].partition(';')[0]}", "", "", ""]
    first = [row["model"], row["arm"], f"{row['bytes'] / 1e6:.2f}", share(row["equal"])]
    if row["asked"] != "text":
        return [*first, share(row["right"]), share(row["right_there"]), ""]
    return [*first, f"perplexity {row['perplexity']:.3f}", f"perplexity {row['perplexity_there']:.3f}",
            "{ratio:.4f} ({ratio_low:.4f} to {ratio_high:.4f})".format(**row)]  # fmt: skip


def page(table: Sequence[Sequence[str]], given: argparse.Namespace, engine: str) -> str:
    """The kept file."""
    machine, body = facts(), [HEAD, ["---", "---", "---:", *["---"] * (len(HEAD) - 3)], *table]
    return "\n".join([
        "# Measured: exported folders in vLLM", "",
        f"Written by `make bench-vllm` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads, torch {torch.__version__}, {engine} (a third party's build of vLLM for CPUs, whose kernels are not "
        "those of a GPU: what is shown is that names, shapes, packing and configs are what vLLM takes them for; "
        "`VLLM_CPU_INT4_W4A8=0`, or it would round the inputs of 4-bit products to 8 bits). Each "
        "artifact, rounded to nearest in groups of 64, beside its own export, both in bfloat16, asked the same: "
        f"{given.questions:,} test questions with their pictures, or every token but the first of {given.windows} "
        f"windows of {given.length} tokens of Python's language reference. `dense` is the control: the same 16-bit "
        "numbers on both sides. Equal: answers to the letter, or likeliest next tokens. Here and in vLLM: right "
        "answers, or perplexity. Ratio: vLLM's perplexity by ours, by pairs of windows, with its one-sided 95 % "
        "bounds, each alone; other intervals: 95 %, Wilson.", "",
        *("| " + " | ".join(line) + " |" for line in body), "",
    ])  # fmt: skip
