"""The idealized runtime of both sides of a run: what queries would take, from a few that are timed.

A query looks at its picture, reads its prompt and says so many words; F holds the first two, g is one word more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trimtab.core.errors import Anomaly, BadInput
from trimtab.measure.idealized import Runtime, Timing, fit
from trimtab.measure.uniform import Serving, compare, profiled
from trimtab.measure.vlm import Parts, parts
from trimtab.run.context import Context

TOKENS = 8
"""Words of the answers that a run times."""
OUTPUTS = (1, 8, 32)
TIMES = 3
"""Each query is timed so often, after one that is not counted."""
ALLOWED = 10.0
"""Seconds that a length of prompt may take, for both sides."""

Sides = Mapping[str, Any]
"""Loaded models by ``before`` and ``after``."""
Batches = Mapping[str, dict[str, Tensor]]


def whole(found: Parts, tokens: int = TOKENS) -> Callable[[], None]:
    """The call that looks, reads and says ``tokens`` words."""

    def run() -> None:
        if found.vision is not None:
            found.vision()
        found.prefill()
        for _ in range(tokens):
            found.decode()

    return run


@dataclass(frozen=True)
class Cost:
    """Seconds of a picture, of a prompt, and of a word."""

    see: float
    read: float
    word: float

    def query(self, times: float, output: int) -> float:
        """Of a prompt ``times`` as long and ``output`` words."""
        return self.see + self.read * times + self.word * (output - 1)


def spent(costs: Sequence[Cost], times: float) -> float:
    """What timing a prompt ``times`` as long takes, with every output and on all sides."""
    return (TIMES + 1) * sum(one.query(times, output) for one in costs for output in OUTPUTS)


def lengths(own: int, most: int, costs: Sequence[Cost]) -> list[int]:
    """The prompt's own length and longer ones, until the time or the ``most`` tokens are not there."""
    found = []
    for times in (1, 2, 4):
        if times * own + max(OUTPUTS) > most or spent(costs, times) > ALLOWED:
            break
        found.append(times * own)
    return found


def lengthened(batch: dict[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """The prompts with their last word said again and again, until they are ``tokens`` long."""
    like = batch["input_ids"].shape
    more = tokens - like[1]
    return {name: torch.cat([value, value[:, -1:].expand(-1, more)], 1) if value.shape == like else value
            for name, value in batch.items()}  # fmt: skip


def idealized(context: Context, sides: Sides, batches: Batches, watts: Mapping[str, float]) -> dict[str, Any] | None:
    """Of the prompt's own length from the rounds that were timed; of longer ones, and of longer answers, as far as they
    take no longer than ``ALLOWED`` and the model has places for them."""
    own = int(batches["before"]["input_ids"].shape[1])
    cost = {when: Cost(*(_latency(context, when, name) for name in ("vision", "prefill", "decode"))) for when in sides}
    taken = {when: [Timing(own, said, one.query(1, said)) for said in (1, 1 + TOKENS)] for when, one in cost.items()}
    most = min(places(loaded.model) for loaded in sides.values())
    for length in lengths(own, most, list(cost.values())):
        for when, loaded in sides.items():
            side = parts(loaded.model, lengthened(batches[when], length))
            seen = replace(side, prefill=whole(side, 0))
            taken[when] += profiled(partial(_same, seen), [length], OUTPUTS, TIMES)
    try:
        runtimes = {when: fit(rows) for when, rows in taken.items()}
    except (Anomaly, BadInput) as error:
        context.log.info("idealized runtime: %s", error)
        return None
    return _told(runtimes, own, watts)


def _told(runtimes: Mapping[str, Runtime], own: int, watts: Mapping[str, float]) -> dict[str, Any]:
    """Plain data: each side's fit, and the mean of queries of that prompt with 8, 32 and 128 words of answer."""
    queries = [(own, output) for output in (8, 32, 128)]
    models = {when: (one, Serving(watts=watts[when])) for when, one in runtimes.items()}
    fits = {when: {"prompts": list(one.prompts), "first": list(one.first), "per_token": one.per_token, "r2": one.r2,
                   "n": one.n} for when, one in runtimes.items()}  # fmt: skip
    return {"fits": fits, "queries": [list(query) for query in queries], "rows": compare(models, queries)}


def _same(found: Parts, _: int) -> Parts:
    return found


def _latency(context: Context, when: str, part: str) -> float:
    """Seconds at batch 1, 0 of a part that the model has not."""
    found = context.figure(when, f"latency.{part}.b1")
    return 0.0 if found is None else float(found["value"])


def places(model: Any) -> int:
    """Tokens that the model has positions for."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)
