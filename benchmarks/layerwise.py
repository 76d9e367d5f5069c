"""``make bench-layerwise``: every layer-wise method against what its card says it must beat, on a real language model.

    python benchmarks/layerwise.py [--model NAME] [--windows N] [--only TEXT ...]

The decoder's linears of Gemma 3 270M, embedding and head left as they are; calibration on the standard library's
docstrings, perplexity on Python's language reference. Prints one table and, as the last line, one JSON object; a whole
run also writes docs/measured-layerwise.md. A ratio is taken by pairs of windows, with its one-sided 95 % bounds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from trimtab import methods
from trimtab.core.weight import bits
from trimtab.data import text as texts
from trimtab.evaluate.perplexity import losses
from trimtab.evaluate.ratio import of_windows
from trimtab.load.sources import open_source
from trimtab.measure.machine import facts
from trimtab.run.walk import walk

OUT = Path(__file__).resolve().parents[1] / "docs" / "measured-layerwise.md"
Steps = tuple[tuple[str, dict[str, Any]], ...]
W3, W4, HALF, RANK = {"bits": 3, "group_size": 64}, {"bits": 4, "group_size": 64}, {"pattern": "2:4"}, {"r": 16}
FLOATS = [{"format": "mxfp4"}, {"format": "nvfp4"}]
PAIRS: dict[str, tuple[Steps, Steps]] = {
    **{f"gptq W{grid['bits']}": ((("gptq", grid),), (("rtn", grid),)) for grid in (W3, W4)},
    **{f"awq W{grid['bits']}": ((("awq", grid),), (("rtn", grid),)) for grid in (W3, W4)},
    **{f"quantease W{grid['bits']}": ((("quantease", grid),), (("gptq", grid),)) for grid in (W3, W4)},
    "quantease W3, 1 % outliers": ((("quantease", W3 | {"outliers": 0.01}),), (("gptq", W3),)),
    "finequant W4": ((("finequant", W4),), (("rtn", W4),)),
    "gptq W3, rotated": ((("gptq", W3 | {"rotate": 128}),), (("gptq", W3),)),
    **{f"mr_gptq {knobs['format']}": ((("mr_gptq", knobs),), (("fp4", knobs),)) for knobs in FLOATS},
    "nf4": ((("nf4", {"group_size": 64}),), (("rtn", W4),)),
    "wanda 2:4": ((("wanda", HALF),), (("magnitude", HALF),)),
    "sparsegpt 2:4": ((("sparsegpt", HALF),), (("magnitude", HALF),)),
    "sparsegpt 2:4 (wanda)": ((("sparsegpt", HALF),), (("wanda", HALF),)),
    **{f"eora on {base} {said}": (((base, knobs), ("eora", RANK)), ((base, knobs), ("svd", RANK)))
       for base, said, knobs in (("rtn", "W3", W3), ("gptq", "W3", W3), ("wanda", "2:4", HALF))},
}  # fmt: skip
"""By what is shown: the method's steps, and those of what it must beat."""


@dataclass(frozen=True)
class Found:
    """``losses`` by window, stored ``bits`` for each weight of the layers, and the ``seconds`` that fitting took."""

    losses: list[float]
    bits: float
    seconds: float


def measured(model: str, steps: Steps, windows: int, calibration: int) -> Found:
    """The model after ``steps`` on its decoder's linears."""
    loaded = open_source(model, dtype="bfloat16")
    rows = texts.windows(texts.calibration(), loaded.tokenizer, calibration)
    batches = [{"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]} for row in rows]
    names = [name for name, _ in loaded.anatomy.linears() if loaded.anatomy.part_of(name) == "language"]
    hosts = dict(loaded.anatomy.linears())
    original = {name: hosts[name].w.dense().detach() for name in names}
    begun = time.monotonic()
    for name, knobs in steps:
        method = methods.make(name, knobs)
        source = original.__getitem__ if method.CARD.wants_source else None
        walk(loaded.anatomy, batches, method, ["language"], source=source)
    seconds = time.monotonic() - begun
    stored = sum(bits(hosts[name].w) for name in names) / sum(value.numel() for value in original.values())
    test = texts.windows(texts.evaluation(), loaded.tokenizer, windows)
    return Found(list(losses(loaded.library, test)), stored, seconds)


def main() -> None:
    """Each setting once, then the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:gemma-3-270m")
    parser.add_argument("--windows", type=int, default=texts.WINDOWS)
    parser.add_argument("--calibration", type=int, default=32)
    parser.add_argument("--only", nargs="+", default=[""])
    given = parser.parse_args()
    pairs = {name: pair for name, pair in PAIRS.items() if any(text in name for text in given.only)}
    found: dict[str, Found] = {}
    for steps in ((), *(steps for pair in pairs.values() for steps in pair)):
        if str(steps) not in found:
            found[str(steps)] = measured(given.model, steps, given.windows, given.calibration)
            print(" + ".join(name for name, _ in steps) or "as it came", perplexity(found[str(steps)]), flush=True)
    table = Table("method", "perplexity", "baseline", "ratio", "at most", "bits", "bits of baseline", "seconds")
    rows = []
    for name, (ours, theirs) in pairs.items():
        a, b = found[str(ours)], found[str(theirs)]
        ratio = of_windows(b.losses, a.losses)
        row = {"method": name, "perplexity": perplexity(a), "baseline": perplexity(b), "ratio": ratio.value,
               "high": ratio.high, "bits": a.bits, "baseline_bits": b.bits, "seconds": a.seconds}  # fmt: skip
        rows.append(row)
        table.add_row(name, *(f"{value:.3f}" for value in list(row.values())[1:]))
    Console(width=110).print(table)
    if given.only == [""]:
        OUT.write_text(page(rows, perplexity(found["()"]), given), encoding="utf-8")
    print(json.dumps({"model": given.model, "as_it_came": perplexity(found["()"]), "rows": rows}))


def page(rows: Sequence[dict[str, Any]], dense: float, given: argparse.Namespace) -> str:
    """The kept file."""
    head = ["method", "perplexity", "what it must beat", "ratio", "at most (95 %)", "bits for each weight", "of that",
            "seconds"]  # fmt: skip
    lines = [head, ["---", *["---:"] * (len(head) - 1)],
             *([row["method"], *(f"{value:.3f}" for value in list(row.values())[1:])] for row in rows)]  # fmt: skip
    machine = facts()
    return "\n".join([
        "# Measured: layer-wise methods on Gemma 3 270M", "",
        f"Written by `make bench-layerwise` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads, torch {torch.__version__}: the decoder's linears of {given.model}, {given.calibration} windows of "
        f"calibration, perplexity on {given.windows} windows of Python's language reference ({dense:.1f} as it came), "
        "ratios by pairs of windows.", "", *("| " + " | ".join(line) + " |" for line in lines), "",
    ])  # fmt: skip


def perplexity(one: Found) -> float:
    return math.exp(math.fsum(one.losses) / len(one.losses))


if __name__ == "__main__":
    main()
