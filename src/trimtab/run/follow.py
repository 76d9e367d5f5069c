"""Which steps of a recipe may follow one another, layer by layer, told before any work from the methods' cards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trimtab import methods
from trimtab.anatomy import Anatomy
from trimtab.order import undone
from trimtab.run.arms import LAYERWISE
from trimtab.run.recipe import Step
from trimtab.run.targets import select

Standing = dict[str, dict[str, str]]
"""By layer: the invariants that stand there, and the step that established each."""


def clashes(anatomy: Anatomy, steps: Sequence[Step]) -> Iterator[str]:
    """For each step that cannot follow the ones before it: why, naming the first of its layers, in order.

    A step that works on layers must preserve or consume what stands on each of them; one that makes up for what was
    lost needs something lost, and nothing learnt, merged or not: it would take that back. Tied layers are one. What a
    step both consumes and establishes (merging onto a grid), it makes anew where it stood.
    """
    owner = {second: first for first, second in anatomy.aliases()}
    standing: Standing = {}
    learnt: dict[str, str] = {}
    for index, step in enumerate(steps):
        card = methods.get(step.method).CARD
        if card.family not in (*LAYERWISE, "adapt"):
            continue
        label = f"steps.{index}.{step.method}"
        layers = list(dict.fromkeys(owner.get(name, name) for name in _layers(anatomy, step, standing)))
        wrong = [(n, why) for n in layers if (why := _why(step.method, standing.get(n, {}), learnt.get(n)))]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            yield f"{label}: {wrong[0][0]}{more}: {wrong[0][1]}"
        for name in layers:
            before = standing.get(name, {})
            kept = {what: by for what, by in before.items() if what not in card.consumes}
            made = [what for what in card.establishes if what not in card.consumes or what in before]
            standing[name] = kept | dict.fromkeys(made, label)
        if "adapter" in card.establishes:
            learnt |= dict.fromkeys(layers, label)


def _layers(anatomy: Anatomy, step: Step, standing: Standing) -> list[str]:
    """The names of the layers that a step works on: its targets, those that its adapters are for, or, where it names
    none, those that have an adapter or thin factors by then."""
    method: Any = methods.make(step.method, step.knobs)
    if method.CARD.family != "adapt" or hasattr(method, "target_modules"):
        return targeted(anatomy, step, method)
    if hasattr(method, "adapters"):
        known = dict(anatomy.linears())
        return [name for name in method.adapters() if name in known]
    return [name for name, what in standing.items() if "adapter" in what or "low_rank" in what]


def targeted(anatomy: Anatomy, step: Step, method: Any) -> list[str]:
    """The layers that a step names: ``target_modules`` of its knobs, where it has them (as in PEFT), or ``targets``."""
    targets = getattr(method, "target_modules", None) or step.targets or ("all-linear",)
    return select(anatomy, targets, step.ignore)


def _why(method: str, standing: dict[str, str], learnt: str | None) -> str | None:
    """Why ``method`` cannot work on a layer where this stands, or None; ``learnt``: the step that put an adapter."""
    card = methods.get(method).CARD
    if card.wants_source and learnt:
        return (f"{learnt} put an adapter here, and what it learnt is a difference from the original matrices, which "
                f"{method} would take back, merged or not; put {method} first, or part their layers")  # fmt: skip
    if card.wants_source and not standing:
        return "no step before it changes this layer, so there is nothing to make up for; put it under ignore"
    for what in undone(method, standing):
        return (f"{standing[what]} established {what!r}, which {method} neither preserves nor consumes; take one of "
                "the two steps, or part their layers with targets and ignore")  # fmt: skip
    return None
