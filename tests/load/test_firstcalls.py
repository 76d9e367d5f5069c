"""Whoever opens a model has made the CPU's vector functions choose their code, on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import LlavaForConditionalGeneration

from trimtab import anatomy
from trimtab.core.firstcalls import FUNCTIONS
from trimtab.load import Loaded, artifact, open_source


class Heard(TorchFunctionMode):
    """(name, precision, how many numbers) of the calls on one tensor, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, torch.dtype, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], Tensor):
            self.calls.append((func.__name__, args[0].dtype, args[0].numel()))
        return func(*args, **(kwargs or {}))


WANTED = [(name, dtype) for dtype in (torch.float32, torch.float64) for name in FUNCTIONS]


def settled_first(heard: Heard) -> bool:
    """Each function in both precisions before anything else, on fewer numbers than a second thread gets work for."""
    first = heard.calls[: len(WANTED)]
    return [call[:2] for call in first] == WANTED and all(call[2] < 2048 for call in first)


@pytest.mark.parametrize("door", ["source", "artifact", "anatomy"])
def test_every_door_settles_them_first(door: str, llava_folder: Path, trimmed_llava: tuple[Loaded, Path]) -> None:
    elsewhere = LlavaForConditionalGeneration.from_pretrained(llava_folder)
    with Heard() as heard:
        if door == "source":
            open_source(llava_folder)
        elif door == "artifact":
            artifact.read(trimmed_llava[1])
        else:
            anatomy.of(elsewhere)
    assert settled_first(heard)


def test_functions_that_models_use_are_among_them() -> None:
    used = {"cos", "sin", "exp", "erf", "tanh", "log", "sqrt", "rsqrt", "log1p", "expm1"}
    assert used <= set(FUNCTIONS)
