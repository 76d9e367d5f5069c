"""Times of products: of the grid that was asked for, by the kernel that a model would get."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trimtab.core.weight import Quantized
from trimtab.runtime import times
from trimtab.runtime.times import Grid, random_weight, seconds

GRID = Grid(32, 64, 4, 32, False, torch.bfloat16)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_matrix_is_on_the_grid_that_was_asked_for(bits: int, symmetric: bool) -> None:
    w = random_weight(GRID._replace(bits=bits, symmetric=symmetric))
    assert isinstance(w, Quantized)
    assert (w.shape, w.bits, w.group_size, w.zero is None, w.dtype) == ((32, 64), bits, 32, symmetric, torch.bfloat16)


@pytest.mark.parametrize("held", [True, False])
def test_what_is_timed_is_what_the_runtime_would_put_there(held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = times.lower

    def spied(model: Any, **given: Any) -> Any:
        report = original(model, **given, capability="AVX2")
        seen.append((report.held > 0, report.kernels))
        return report

    monkeypatch.setattr(times, "lower", spied)
    assert seconds(GRID._replace(held=held), 3) > 0
    assert seen == [(held, {"trial": "int4pack" if held else "compiled 4 bits"})]


def test_it_is_the_median_of_calls_with_so_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[Any] = []

    def repeats(fn: Any, count: int) -> list[float]:
        shapes.append(tuple(fn().shape))
        return [5.0] * (count // 2) + [1.0] * (count - count // 2)

    monkeypatch.setattr(times, "repeats_of", repeats)
    assert seconds(GRID, 3) == 1.0
    assert shapes == [(3, 32)]
