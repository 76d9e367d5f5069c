"""Trimtab: trims a vision-language model to fit the hardware you have, and proves that it still works.

    import trimtab
    trimtab.run("quickstart")                        # a recipe: a name, a file, a dict or a Recipe
    vlm = trimtab.load("runs/quickstart/artifact")   # .model .processor .anatomy .readings
    trimtab.quantize.GPTQ(bits=4, group_size=64)     # a method alone

Names are fetched when they are first used, so that importing this costs little before torch is needed.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Recipe", "__version__", "cache", "factorize", "load", "prune", "quantize", "robust", "run", "tokens"]

_ROOMS = ("load", "run", "quantize", "prune", "factorize", "tokens", "cache", "robust")  # load and run can be called


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"trimtab.{name}")
    if name == "Recipe":
        return importlib.import_module("trimtab.run.recipe").Recipe
    raise AttributeError(f"module 'trimtab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
