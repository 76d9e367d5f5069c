"""The knobs at which a recipe's steps lie, where they say no more than the knobs of a space can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trimtab import methods
from trimtab.run.recipe import Step
from trimtab.run.search.compose import TABLES, Choice, Shape, key
from trimtab.run.search.space import Space

Said = dict[str, Any]
Read = Callable[[Step, Said, Mapping[str, Choice], Shape], Said]
"""What a step says of the knobs, from its own knobs with their defaults, what earlier steps said, and the shape."""


def values(given: Sequence[Step], space: Space) -> dict[str, Choice] | None:
    """The values at which ``space`` makes just these steps, None where there are none."""
    found: Said = space.rest()
    for step in given:
        if step.method not in READ:
            return None
        knobs = methods.knobs(methods.make(step.method, step.knobs))
        found |= READ[step.method](step, knobs, found, space.shape)
    choices = {knob.name: knob.choices for knob in space.knobs}
    if any(value not in choices.get(name, ()) for name, value in found.items()):
        return None
    return found if key(space.steps(found)) == key(given) else None


def _rounding(step: Step, knobs: Said, found: Mapping[str, Choice], shape: Shape) -> Said:
    said: Said = {"method": step.method}
    for part in step.targets or ("all-linear",):
        said["bits.tables" if part in TABLES else f"bits.{part}"] = knobs["bits"]
        said["group_size.tables" if part in TABLES else "group_size"] = knobs["group_size"]
    return said


def _pruning(step: Step, knobs: Said, found: Mapping[str, Choice], shape: Shape) -> Said:
    return {f"sparsity.{part}": knobs["pattern"] for part in step.targets or ("all-linear",)}


def _tokens(step: Step, knobs: Said, found: Mapping[str, Choice], shape: Shape) -> Said:
    layer = {"tokens.layer": knobs["layer"]} if step.method == "fastv" else {}
    return {"tokens.method": step.method, "tokens.keep": knobs["keep"]} | layer


def _snapkv(step: Step, knobs: Said, found: Mapping[str, Choice], shape: Shape) -> Said:
    entries = shape.text + shape.image * float(found.get("tokens.keep", 1))
    return {"cache.keep": round(knobs["capacity"] / entries, 2)}


def _one(name: str, of: str) -> Read:
    return lambda step, knobs, found, shape: {name: knobs[of]}


READ: Mapping[str, Read] = {
    "gptq": _rounding, "quantease": _rounding, "rtn": _rounding, "wanda": _pruning,
    "divprune": _tokens, "tome": _tokens, "fastv": _tokens,
    "eora": _one("rank", "r"), "snapkv": _snapkv, "kivi": _one("cache.bits", "bits"), "lora": _one("adapter.r", "r"),
}  # fmt: skip
