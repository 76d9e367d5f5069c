"""Models compared as if on uniform hardware: their timings on one machine, and what their queries cost on another.

    accelerator seconds = T n        dollars = T n x price / 3,600        joules = T n x watts

for n accelerators that a model needs, the cost-aware versions of the idealized runtime (Narayanan et al. 2023, arXiv
2305.02440).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.core.errors import BadInput
from trimtab.measure.idealized import Runtime, Timing
from trimtab.measure.latency import Clock, repeats_of
from trimtab.measure.vlm import Parts

Query = tuple[int, int]
"""Tokens of prompt and of output."""


@dataclass(frozen=True)
class Serving:
    """``accelerators`` that a model needs at once; ``price`` of one, dollars an hour, and ``watts`` of one where they
    are known."""

    accelerators: int = 1
    price: float | None = None
    watts: float | None = None


@dataclass(frozen=True)
class Cost:
    """Of one query; ``dollars`` and ``joules`` None where the price or the power is not known."""

    seconds: float
    accelerator_seconds: float
    dollars: float | None
    joules: float | None


def cost(runtime: Runtime, query: Query, serving: Serving) -> Cost:
    """What a query takes and costs. Raises BadInput as ``Runtime.prefill`` does."""
    seconds = runtime(*query)
    held = seconds * serving.accelerators
    return Cost(
        seconds,
        held,
        None if serving.price is None else held * serving.price / 3600,
        None if serving.watts is None else held * serving.watts,
    )


def compare(models: Mapping[str, tuple[Runtime, Serving]], queries: Sequence[Query]) -> list[dict[str, Any]]:
    """A row for each model, the quickest first: the mean cost of the same queries. Raises BadInput without queries."""
    if not queries:
        raise BadInput("queries: got none; accepted: tokens of prompt and output of at least one")
    rows = []
    for name, (runtime, serving) in models.items():
        each = [cost(runtime, query, serving) for query in queries]
        rows.append({
            "model": name, "queries": len(each), "accelerators": serving.accelerators,
            "seconds": _mean([one.seconds for one in each]),
            "accelerator_seconds": _mean([one.accelerator_seconds for one in each]),
            "dollars": None if serving.price is None else _mean([one.dollars or 0.0 for one in each]),
            "joules": None if serving.watts is None else _mean([one.joules or 0.0 for one in each]),
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["seconds"], row["model"]))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def profiled(
    make: Callable[[int], Parts],
    prompts: Iterable[int],
    outputs: Iterable[int],
    repeats: int = 5,
    clock: Clock = time.perf_counter,
) -> list[Timing]:
    """The shortest of ``repeats`` for every prompt and output; ``make(p)``: the parts for p tokens of prompt. The
    model's cache must have room for the longest."""
    found, lengths = [], list(outputs)
    for prompt in prompts:
        parts = make(prompt)
        for output in lengths:
            found.append(Timing(prompt, output, min(repeats_of(_query(parts, output), repeats, 1, clock=clock))))
    return found


def _query(parts: Parts, output: int) -> Callable[[], None]:
    def run() -> None:
        parts.prefill()
        for _ in range(output - 1):
            parts.decode()

    return run
