"""``make bench-encoder``: what is left of sentence embeddings when a text encoder is quantized.

    python benchmarks/encoder.py [--bits 8 4 3] [--group-size 64] [--sentences 1000] [--calibration 1024] [--out FILE]

The linears of all-MiniLM-L6-v2 by RTN, GPTQ and AWQ, word embeddings left as they are, and once more by GPTQ with the
word embeddings rounded too (they have no inputs to calibrate on). Calibration: sentences of the standard library's
docstrings; held out: sentences of Python's language reference, drawn with one seed. Embeddings are pooled as the
model's card says (mean over tokens, of length 1) and compared with those of the untouched float32 model: cosines, and
for each sentence Spearman's correlation of its similarities to all the others. Intervals are two-sided 95 % bootstraps
over sentences, the difference from RTN in pairs. Writes docs/measured-encoder.md; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from trimtab import methods
from trimtab.core.weight import bits as stored_bits
from trimtab.data import text as texts
from trimtab.data.sentences import sentences
from trimtab.evaluate.bootstrap import interval, percentile
from trimtab.evaluate.embedding import cosines, mean_pooled, order_kept
from trimtab.load.loaded import Loaded
from trimtab.load.sources import open_source
from trimtab.measure.machine import facts
from trimtab.run.walk import walk

MODEL, LONGEST, BATCH, TAIL = "builtin:minilm", 256, 32, 0.05
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "RTN": ("rtn", ("language",)),
    "GPTQ": ("gptq", ("language",)),
    "AWQ": ("awq", ("language",)),
    "GPTQ, embeddings too": ("gptq", ("language", "embedding")),
}
"""By what an arm is called: the method, and the parts that it takes."""
PLAIN = "RTN"
OUT = Path(__file__).resolve().parents[1] / "docs" / "measured-encoder.md"
HEAD = ("bits", "method", "cosine, mean", "cosine, 5th percentile", "order of similarities", "mean cosine less RTN's",
        "bits for each weight", "MB")  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One arm's ``embeddings``, the ``stored`` bits for each weight that was quantized, and the model's ``bytes``."""

    bits: int
    arm: str
    embeddings: Tensor
    stored: float
    bytes: float


def batches(loaded: Loaded, asked: Sequence[str]) -> list[dict[str, Tensor]]:
    """Sentences in batches, as the tokenizer pads them."""
    parts = [list(asked[at : at + BATCH]) for at in range(0, len(asked), BATCH)]
    return [dict(loaded.tokenizer(part, return_tensors="pt", padding=True, truncation=True, max_length=LONGEST))
            for part in parts]  # fmt: skip


@torch.no_grad()
def embedded(loaded: Loaded, asked: Sequence[str]) -> Tensor:
    """By the library's own forward."""
    return torch.cat([mean_pooled(loaded.library(**batch).last_hidden_state, batch["attention_mask"])
                      for batch in batches(loaded, asked)])  # fmt: skip


def measured(given: argparse.Namespace, bits: int, arm: str, fitted: Sequence[str], asked: Sequence[str]) -> Found:
    """The encoder quantized as the arm says. Bytes: as stored, everything that is not quantized in 16 bits."""
    loaded, (name, targets) = open_source(MODEL), ARMS[arm]
    reports = walk(loaded.anatomy, batches(loaded, fitted),
                   methods.make(name, {"bits": bits, "group_size": given.group_size}), targets)  # fmt: skip
    hosts = {**dict(loaded.anatomy.linears()), **dict(loaded.anatomy.embeddings())}
    taken = [hosts[report.name].w for report in reports]
    numbers, kept = sum(w.shape[0] * w.shape[1] for w in taken), sum(stored_bits(w) for w in taken)
    size = loaded.source.bytes16 - 2 * numbers + kept / 8
    print(f"{bits} bits, {arm}: {kept / numbers:.3f} bits for each weight, {size / 1e6:.1f} MB", flush=True)
    return Found(bits, arm, embedded(loaded, asked), kept / numbers, size)


def row(found: Found, dense: Tensor, plain: Tensor) -> dict[str, Any]:
    """Figures with their intervals."""
    near, base = cosines(dense, found.embeddings), cosines(dense, plain)
    order, low = order_kept(dense, found.embeddings), percentile(TAIL)
    return {
        "bits": found.bits, "arm": found.arm, "cosine": float(near.mean()), "cosine_interval": interval(near),
        "tail": float(near.quantile(TAIL)), "tail_interval": interval(near, low),
        "order": float(order.mean()), "order_interval": interval(order),
        "over_plain": None if found.arm == PLAIN else float((near - base).mean()),
        "over_plain_interval": None if found.arm == PLAIN else interval(near - base),
        "bits_per_weight": found.stored, "bytes": found.bytes,
    }  # fmt: skip


def cells(one: dict[str, Any]) -> list[str]:
    """A line of the table."""

    def of(key: str, form: str = ".5f") -> str:
        if one[key] is None:
            return ""
        low, high = one[f"{key}_interval"]
        return f"{one[key]:{form}} ({low:{form}} to {high:{form}})"

    return [str(one["bits"]), one["arm"], of("cosine"), of("tail"), of("order"), of("over_plain", "+.5f"),
            f"{one['bits_per_weight']:.3f}", f"{one['bytes'] / 1e6:.1f}"]  # fmt: skip


def page(rows: Sequence[dict[str, Any]], given: argparse.Namespace, whole: float) -> str:
    """The kept file."""
    machine, body = facts(), [HEAD, ["---:", "---", *["---:"] * (len(HEAD) - 2)], *map(cells, rows)]
    return "\n".join([
        "# Measured: a quantized sentence encoder", "",
        f"Written by `make bench-encoder` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads, torch {torch.__version__}: the encoder's linears of {MODEL} on grids of {given.group_size}, "
        f"{given.calibration:,} sentences of the standard library's docstrings for calibration, {given.sentences:,} "
        "held-out sentences of Python's language reference. Cosines between a sentence's embedding before (float32) "
        "and after; order: Spearman's correlation of its similarities to all other sentences, before and after, mean "
        "over sentences. Two-sided 95 % bootstrap intervals over sentences; the difference from RTN in pairs. MB: "
        f"weights as stored, the rest in 16 bits; {whole / 1e6:.1f} MB with all in 16 bits.", "",
        *("| " + " | ".join(line) + " |" for line in body), "",
    ])  # fmt: skip


def main() -> None:
    """Each arm once, the table, the kept file, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=(8, 4, 3))
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--calibration", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    fitted, asked = (drawn(text, count) for text, count in ((texts.calibration(), given.calibration),
                                                            (texts.evaluation(), given.sentences)))  # fmt: skip
    whole = open_source(MODEL)
    dense, rows, table = embedded(whole, asked), [], Table(*HEAD)
    for bits in given.bits:
        found = {arm: measured(given, bits, arm, fitted, asked) for arm in ARMS}
        rows += [row(one, dense, found[PLAIN].embeddings) for one in found.values()]
    for one in rows:
        table.add_row(*cells(one))
    Console(width=170).print(table)
    given.out.write_text(page(rows, given, whole.source.bytes16), encoding="utf-8")
    print(json.dumps({"model": MODEL, "sentences": len(asked), "group_size": given.group_size, "rows": rows}))


def drawn(text: str, count: int) -> list[str]:
    """``count`` of the text's sentences, drawn with seed 0, in their order. Raises SystemExit where it has fewer."""
    every = sentences(text)
    if len(every) < count:
        raise SystemExit(f"encoder: {count} sentences were asked for; the text has {len(every)}")
    places = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:count]
    return [every[at] for at in sorted(places.tolist())]


if __name__ == "__main__":
    main()
