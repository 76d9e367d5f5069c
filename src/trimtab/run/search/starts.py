"""What a search tries before its sampler draws: the recipe's own steps, plain recipes to beat, and likely combinations.

Every sampler gets the same, so that what one adds to them can be compared. The references are asked every question,
since points are held against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.run.recipe import Recipe, Step
from trimtab.run.search.compose import Choice, key
from trimtab.run.search.inverse import values
from trimtab.run.search.space import Space
from trimtab.run.search.study import Start

FOUR, QUARTER = "4-bit alone", "keep 0.25 alone"
ALL = "bits"
"""Stands for the bits of every part."""
LIKELY: tuple[Mapping[str, Choice], ...] = (
    {ALL: 4, "tokens.keep": 0.25},
    {ALL: 3, "tokens.keep": 0.12},
    {ALL: 3, "bits.tables": 4, "rank": 4, "tokens.keep": 0.25},
    {ALL: 2, "bits.tables": 4, "rank": 8, "adapter.r": 8, "tokens.keep": 0.12},
    {ALL: 8, "tokens.keep": 0.05},
    {ALL: 4, "tokens.keep": 0.5, "cache.bits": 8},
)


def references(recipe: Recipe, name: str, space: Space) -> list[Start]:
    """The recipe's own steps, all parts at 4 bits and nothing else, a quarter of the image tokens and nothing else
    (where there are any), each once; without knobs where the space does not have them."""
    size = space.rest().get("group_size", -1)
    four: dict[str, Any] = {"gptq": {"bits": 4, "group_size": size, "targets": list(space.shape.parts)}}
    plain = [(FOUR, four), *([(QUARTER, {"divprune": {"keep": 0.25}})] if space.shape.image else [])]
    found = [Start(recipe.steps, values(recipe.steps, space), name)]
    for what, one in plain:
        steps = (Step.model_validate(one),)
        if key(steps) != key(recipe.steps):
            found.append(Start(steps, values(steps, space), what))
    return found


def likely(space: Space) -> list[Start]:
    """The combinations that this space has; what it lacks of one is left out."""
    names = {knob.name for knob in space.knobs}
    found = []
    for one in LIKELY:
        known = at(space, {name: value for name, value in one.items() if name in names or name == ALL})
        if known is not None and space.steps(known):
            found.append(Start(space.steps(known), known))
    return found


def at(space: Space, given: Mapping[str, Choice]) -> dict[str, Choice] | None:
    """The knobs at rest but for ``given``; None where a choice is not one of this space's."""
    found = space.rest()
    if ALL in given:
        found |= {name: given[ALL] for name in found if name.startswith(f"{ALL}.")}
    found |= {name: value for name, value in given.items() if name != ALL}
    choices = {knob.name: knob.choices for knob in space.knobs}
    return found if all(value in choices.get(name, ()) for name, value in found.items()) else None
