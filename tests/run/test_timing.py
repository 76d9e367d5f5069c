"""How many rounds are timed, and which of the figures are simulated."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trimtab.core.reading import Reading
from trimtab.measure.vlm import Parts
from trimtab.run import timing
from trimtab.run.context import silent
from trimtab.run.judge import _kernels
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


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ((), set()),
        (("vision.a", "projector.b"), {"vision"}),
        (("language.a",), {"prefill", "decode"}),
        (("head.a", "vision.b"), {"vision", "prefill", "decode"}),
    ],
)
def test_what_holds_a_simulated_layer_says_so(names: tuple[str, ...], parts: set[str]) -> None:
    anatomy = SimpleNamespace(part_of=lambda name: name.partition(".")[0])
    loaded = SimpleNamespace(anatomy=anatomy, kernels=SimpleNamespace(simulated=names))
    assert timing.simulated(loaded) == parts
    assert timing.simulated(SimpleNamespace(kernels=None)) == set()
    for part in ("vision", "prefill", "decode"):
        found = timing._said(Reading(f"latency.{part}.b8", 1.0, "s", how="timed"), parts)
        assert found == Reading(f"latency.{part}.b8", 1.0, "s", how="simulated" if part in parts else "timed")


def test_the_report_says_how_many_are_simulated_whatever_they_run_on() -> None:
    found = {"linears": {}, "reference": 3, "held": 0, "simulated": 3}
    (note,) = _kernels(found)
    assert note.startswith("Simulated: 3 linears")
    assert [one.partition(":")[0] for one in _kernels(found | {"linears": {"dense copy": 3}})] == [
        "Simulated",
        "Kernels",
    ]
    assert _kernels(found | {"simulated": 0}) == _kernels(None) == []
    assert _kernels(found | {"simulated": 0, "planless": "its matrices are in files"}) == []
    (note,) = _kernels(found | {"simulated": 0, "planless": ""})
    assert note.startswith("The decoder runs by a plan")
