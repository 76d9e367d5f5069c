"""What a search may choose from: knobs with a few choices each, derived from what the model and the task have.

A knob is left out where nothing could gain from it: no image tokens, no tables, no budget that a smaller cache helps.
A choice is left out where the model refuses it (a group that divides no row, a rank above a dimension). A file narrows
or widens what is left: a YAML mapping of knobs to lists of choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trimtab.anatomy import Anatomy
from trimtab.core.errors import BadInput, unknown
from trimtab.run.recipe import Recipe, Step
from trimtab.run.search import compose
from trimtab.run.search.compose import NONE, TABLES, WHOLE, Choice, Shape

SIZES = (128, 64, 32, 16)
"""Inputs that share a scale; those that divide every row stay."""
KEEPS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Knob:
    """``rest``: the choice that does nothing, or where the search begins. ``ordered``: neighbours are alike."""

    name: str
    choices: tuple[Choice, ...]
    rest: Choice
    ordered: bool = True


@dataclass(frozen=True)
class Space:
    """The knobs, and the shape of the model and its prompts by which they become steps."""

    knobs: tuple[Knob, ...]
    shape: Shape

    def rest(self) -> dict[str, Choice]:
        """Every knob where it does nothing."""
        return {knob.name: knob.rest for knob in self.knobs}

    def steps(self, values: Mapping[str, Choice]) -> tuple[Step, ...]:
        """The steps of a recipe at these values."""
        return tuple(Step.model_validate(one) for one in compose.steps(values, self.shape))

    def size(self) -> int:
        """How many combinations there are, those that come to the same steps counted apart."""
        count = 1
        for knob in self.knobs:
            count *= len(knob.choices)
        return count

    def row(self) -> dict[str, list[Choice]]:
        """Plain data: what ``narrowed`` takes."""
        return {knob.name: list(knob.choices) for knob in self.knobs}


def derive(anatomy: Anatomy, recipe: Recipe, shape: Shape) -> Space:
    """The knobs of a model and a task, with every choice that anybody might want; ``legal`` takes away the others."""
    widths = [host.w.shape[1] for _, host in anatomy.linears()]
    tables = [host.w.shape[1] for name, host in (*anatomy.embeddings(), *anatomy.linears())
              if anatomy.part_of(name) in TABLES]  # fmt: skip
    knobs = [Knob("method", ("gptq", "quantease"), "gptq", False)]
    for part in (*shape.layers, *(("tables",) if tables else ())):
        knobs.append(Knob(f"bits.{part}", (2, 3, 4, 8, WHOLE), WHOLE))
    knobs.append(_sizes("group_size", widths))
    knobs += [_sizes("group_size.tables", tables)] if tables else []
    knobs += [Knob(f"sparsity.{part}", (NONE, "4:8", "2:4", "1:4"), NONE, False)
              for part in ("language", "vision") if part in shape.parts]  # fmt: skip
    knobs.append(Knob("rank", (0, 2, 4, 8, 16), 0))
    if shape.image:
        knobs += [Knob("tokens.keep", KEEPS, 1.0), Knob("tokens.layer", (1, 2, 3), 2),
                  Knob("tokens.method", ("divprune", "tome", "fastv"), "divprune", False)]  # fmt: skip
    if recipe.budget.cache is not None or recipe.budget.decode is not None:
        knobs += [Knob("cache.keep", (0.25, 0.5, 0.75, 1.0), 1.0), Knob("cache.bits", (2, 4, 8, WHOLE), WHOLE)]
    knobs.append(Knob("adapter.r", (0, 4, 8, 16), 0))
    return Space(tuple(knobs), shape)


def _sizes(name: str, widths: Sequence[int]) -> Knob:
    found = tuple(size for size in SIZES if all(width % size == 0 for width in widths)) or (-1,)
    return Knob(name, found, 64 if 64 in found else found[0])


Refuses = Callable[[Sequence[Step]], "str | None"]
"""Why a model takes no such steps, None where it does."""


def legal(space: Space, refuses: Refuses) -> Space:
    """The space without choices that the model refuses. A knob of which only its rest is left goes, unless others need
    it: which method rounds, in which groups."""
    kept, base = [], _working(space)
    for knob in space.knobs:
        found = tuple(one for one in knob.choices if refuses(space.steps(base | {knob.name: one})) is None)
        if knob.rest in found and len(found) > 1:
            kept.append(Knob(knob.name, found, knob.rest, knob.ordered))
        elif found and (not knob.ordered or knob.name.startswith("group_size")):
            kept.append(Knob(knob.name, found, found[0], knob.ordered))
    return Space(tuple(kept), space.shape)


def _working(space: Space) -> dict[str, Choice]:
    """All knobs at rest but for a little rounding and a few tokens less, so that every other one has something to work
    on."""
    found = space.rest()
    for knob in space.knobs:
        if knob.name.startswith("bits.") or knob.name == "tokens.keep":
            found[knob.name] = next((one for one in reversed(knob.choices) if one != knob.rest), knob.rest)
    return found


def narrowed(space: Space, given: Mapping[str, Any], refuses: Refuses, where: str = "--space") -> Space:
    """The space with the choices of ``given`` for the knobs that it names. Raises BadInput, with the nearest name, for
    a knob that this model does not have, a list that is none, or a choice that the model refuses."""
    known = {knob.name: knob for knob in space.knobs}
    for name, choices in given.items():
        if name not in known:
            raise unknown(f"{where}: knob", str(name), known)
        plain = isinstance(choices, list) and all(isinstance(one, int | float | str) for one in choices)
        if not plain or not choices:
            raise BadInput(f"{where}: {name}: got {choices!r}; accepted: a list of choices, as in "
                           f"[{', '.join(map(str, known[name].choices))}]")  # fmt: skip
        old = known[name]
        known[name] = Knob(name, tuple(dict.fromkeys(choices)), _rest(old, choices, where), old.ordered)
    made = Space(tuple(known.values()), space.shape)
    for name in given:
        for one in known[name].choices:
            try:
                why = refuses(made.steps(_working(made) | {name: one}))
            except (ValueError, TypeError) as error:
                why = str(error)
            if why is not None:
                raise BadInput(f"{where}: {name}: got {one!r}; {why}")
    return made


def _rest(old: Knob, choices: Sequence[Choice], where: str) -> Choice:
    """The choice that does least: the old rest, or of numbers the nearest to it."""
    if old.rest in choices or not isinstance(old.rest, int | float):
        return old.rest if old.rest in choices else choices[0]
    wrong = [one for one in choices if isinstance(one, str)]
    if wrong:
        raise BadInput(f"{where}: {old.name}: got {wrong[0]!r}; accepted: numbers, as in {list(old.choices)}")
    rest = float(old.rest)
    return min(choices, key=lambda one: abs(float(one) - rest))


def read(path: Path) -> dict[str, Any]:
    """A file of knobs. Raises BadInput where it is none."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"--space: {path}: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f"--space: {path}: got {type(found).__name__}; accepted: knobs and lists of choices")
    return found
