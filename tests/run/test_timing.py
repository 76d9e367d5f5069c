"""How many rounds are timed."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trimtab.measure.vlm import Parts
from trimtab.run import timing
from trimtab.run.context import silent
from trimtab.run.recipe import Measure


def rounds(repeats: int, max_minutes: float) -> dict[str, dict[str, list[float]]]:
    recipe = SimpleNamespace(measure=Measure(repeats=repeats, max_minutes=max_minutes))
    context: Any = SimpleNamespace(recipe=recipe, progress=silent, log=logging.getLogger("test"))
    part = Parts(None, lambda: torch.ones(1), lambda: torch.ones(1), lambda: 1, 8)
    times: dict[str, dict[str, list[float]]] = {"before": {}, "after": {}}
    timing._rounds(context, {"before": part, "after": part}, times, 8)
    return times


@pytest.mark.parametrize(("repeats", "minutes", "done"), [(9, 60.0, 9), (9, 1e-9, timing.LEAST), (3, 1e-9, 3)])
def test_rounds_end_with_the_recipes_number_or_time_and_both_sides_have_as_many(
    repeats: int, minutes: float, done: int
) -> None:
    times = rounds(repeats, minutes)
    for side in times.values():
        assert {name: len(values) for name, values in side.items()} == {
            "latency.prefill.b8": done,
            "latency.decode.b8": done,
        }
