"""``make bench-keeping``: token and cache methods at keep 0.5, 0.25 and 0.1 beside random dropping and no picture.

    python benchmarks/keeping.py [--questions N] [--out FILE]

The built-in model on easyvqa-grid's test questions; every setting answers the same ones. ``keep`` is the share of the
image tokens that stay, for a cache method the share of the prompt's entries. Random dropping: the mean of three seeds.
Differences are taken question by question, with two-sided 95 % intervals; a method whose interval against random
dropping reaches 0 is said not to beat it. Bytes of keys and values and operations of the prompt are counted at batch 8.
Writes docs/measured-keeping.md and prints, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from trimtab import methods
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.blind import predict_blind
from trimtab.evaluate.paired import drop
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.prompt import encode, render
from trimtab.evaluate.shares import wilson
from trimtab.evaluate.vqa import arranged, predict
from trimtab.load.loaded import Loaded
from trimtab.load.sources import open_source
from trimtab.measure.flops import count
from trimtab.measure.machine import facts
from trimtab.measure.vlm import parts

BATCH, TWO_SIDED, SINKS, WINDOW = 64, 0.025, 4, 16
KEEPS, SEEDS = (0.5, 0.25, 0.1), (0, 1, 2)
OUT = Path(__file__).resolve().parents[1] / "docs" / "measured-keeping.md"


@dataclass(frozen=True)
class Found:
    """One setting: its answers, bytes of keys and values behind the prompt, operations of the prompt."""

    name: str
    keep: float | None
    answers: Sequence[Prediction]
    cache: int = 0
    prompt: float = 0.0


def settings(keep: float, length: int) -> dict[str, Any]:
    """By what a row is called: the method at that ``keep`` of a prompt of ``length`` tokens."""
    held = round(keep * length)
    made = {name: methods.make(name, {"keep": keep}) for name in ("divprune", "fastv", "tome")}
    made["snapkv"] = methods.make("snapkv", {"capacity": held, "window": WINDOW})
    made["sinks"] = methods.make("sinks", {"sinks": SINKS, "window": held - SINKS})
    return made


def measured(loaded: Loaded, batch: dict[str, torch.Tensor], asked: Sequence[Any], name: str, keep: float | None,
             policies: Sequence[Any]) -> Found:  # fmt: skip
    """The model with ``policies``, asked and counted."""
    model = replace(loaded, policies=policies).model
    answers = list(predict(model, loaded.processor, asked, batch_size=BATCH))
    run = parts(model, batch)
    work = count(run.prefill)
    run.decode()
    print(f"{name} {keep or ''}: {fmean(one.score for one in answers):.3f}", flush=True)
    return Found(name, keep, answers, run.cache(), work)


def mean_of(several: Sequence[Found]) -> Found:
    """Random dropping over its seeds: the mean score of each question."""
    scores = [fmean(one.score for one in each) for each in zip(*(f.answers for f in several), strict=True)]
    answers = [replace(one, score=score) for one, score in zip(several[0].answers, scores, strict=True)]
    return replace(several[0], answers=answers)


def against(found: Found, other: Found) -> tuple[float, float, float]:
    """By how much ``found`` is better, in points, with its two-sided 95 % interval."""
    lost = drop(other.answers, found.answers, TWO_SIDED)
    return 0.0 - 100 * lost.value, 0.0 - 100 * lost.high, 0.0 - 100 * lost.low


def row(found: Found, whole: Found, chance: Found | None) -> list[str]:
    """A line of the table."""
    right = 100 * fmean(one.score for one in found.answers)
    lost = "" if found is whole else "{:+.1f} ({:+.1f} to {:+.1f})".format(*against(found, whole))
    beats, said = "", ""
    if chance is not None and found is not chance:
        value, low, high = against(found, chance)
        beats, said = f"{value:+.1f} ({low:+.1f} to {high:+.1f})", "yes" if low > 0 else "**no**"
    kept = "" if found.keep is None else f"{found.keep:g}"
    shares = (found.cache / whole.cache, found.prompt / whole.prompt)
    counted = [f"{share:.2f}x" if found.cache else "" for share in shares]
    return [found.name, kept, f"{right:.1f} %", lost, beats, said, *counted]


def everything(questions: int) -> list[list[str]]:
    """All rows."""
    loaded = open_source("builtin:easyvqa-llava")
    task = Task.parse({"dataset": "easyvqa-grid"})
    asked = arranged(samples(task, "test", questions, 0), BATCH)
    eight = asked[:8]
    rendered = [render(loaded.processor, one.question, 1, None) for one in eight]
    batch = encode(loaded.processor, [text for text, _ in rendered], [one.open() for one in eight], rendered[0][1])
    batch["pixel_values"] = batch["pixel_values"].to(loaded.library.dtype)
    length = int(batch["attention_mask"].sum(1).float().mean())
    whole = measured(loaded, batch, asked, "nothing dropped", None, [])
    blind = Found("blind (no picture)", None, predict_blind(samples(task, "train", None, 0), asked))
    rows = [row(whole, whole, None), row(blind, whole, None)]
    for bits in (8, 4, 2):
        rows.append(row(measured(loaded, batch, asked, f"kivi, {bits} bits", None,
                                 [methods.make("kivi", {"bits": bits})]), whole, None))  # fmt: skip
    for keep in KEEPS:
        drawn = [measured(loaded, batch, asked, "random dropping", keep,
                          [methods.make("random_tokens", {"keep": keep, "seed": seed})]) for seed in SEEDS]  # fmt: skip
        chance = mean_of(drawn)
        rows.append(row(chance, whole, chance))
        for name, method in settings(keep, length).items():
            rows.append(row(measured(loaded, batch, asked, name, keep, [method]), whole, chance))
    return rows


def page(rows: Sequence[Sequence[str]], questions: int) -> str:
    """The kept file."""
    head = ["method", "keep", "right", "against nothing dropped", "against random dropping", "beats random",
            "KV cache", "prompt's arithmetic"]  # fmt: skip
    lines = ["| " + " | ".join(one) + " |" for one in (head, ["---"] * len(head), *rows)]
    machine = facts()
    low, high = wilson(0.5 * questions, questions)
    return "\n".join([
        "# Measured: what token and cache methods keep", "",
        f"Written by `make bench-keeping` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads, torch {torch.__version__}: builtin:easyvqa-llava, {questions:,} test questions of easyvqa-grid, "
        "differences in points with two-sided 95 % intervals by pairs. Cache methods keep that share of the prompt's "
        "entries, and act when the prompt has been read: its arithmetic stays. A share near one half is known to "
        f"{50 * (high - low):.1f} points either way.", "", *lines, "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    rows = everything(given.questions)
    given.out.write_text(page(rows, given.questions), encoding="utf-8")
    print(json.dumps({"questions": given.questions, "rows": rows}))


if __name__ == "__main__":
    main()
