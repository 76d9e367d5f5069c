"""A search that ends in seconds."""

from __future__ import annotations

from pathlib import Path

from trimtab.run.recipe import Recipe
from trimtab.run.search.place import Wanted
from trimtab.run.start import resolve

QUICK = [
    "evaluate.limit=32", "evaluate.batch_size=8", "evaluate.max_new_tokens=3", "calibrate.num_samples=8", "also=[]",
    "measure.repeats=3", "measure.batch_size=2", "threads=1",
    "budget={accuracy: {max_drop: 90pt}, weights: {max: 0.9x}}",
]  # fmt: skip
SPACE = {"bits.language": [4, 8, 16], "bits.vision": [16], "bits.projector": [16], "bits.tables": [16], "rank": [0, 2],
         "sparsity.language": ["none", "2:4"], "sparsity.vision": ["none"], "adapter.r": [0], "method": ["gptq"],
         "tokens.keep": [0.25, 1.0], "tokens.method": ["divprune"]}  # fmt: skip


def recipe(model: Path | str, *more: str) -> Recipe:
    return resolve("quickstart", [*QUICK, f"model={model}", *more])[1]


def wanted(model: Path | str, *more: str, **other: object) -> Wanted:
    return Wanted(**{"name": "quickstart", "questions": 64, "space": SPACE, "recipe": recipe(model, *more)} | other)
