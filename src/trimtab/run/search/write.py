"""What a search leaves to be read: ``search.json``, and each point that nothing beats as a recipe of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trimtab.core.files import write_atomic
from trimtab.run.recipe import Recipe
from trimtab.run.search.bench import with_steps
from trimtab.run.search.final import Read
from trimtab.run.search.front import hypervolume
from trimtab.run.search.goals import Goal, binding, meets
from trimtab.run.search.place import FOUND
from trimtab.run.search.point import Objective, Outcome, Point, best

REFERENCE_LOSS = 0.10
"""Of accuracy: how much less than the untouched model's the reference point of the hypervolume has."""


@dataclass(frozen=True)
class Found:
    """What a search has found so far. ``base``: the untouched model's figures; ``tested``: the last reading of the test
    split, the ``readings``-th; ``notes``: what a reader must know."""

    name: str
    model: str
    recipe: Recipe
    goals: Sequence[Goal]
    objectives: Sequence[Objective]
    points: Sequence[Point]
    base: Mapping[str, float]
    seconds: float
    budget_seconds: float
    tested: Sequence[Read] = ()
    readings: int = 0
    notes: Sequence[str] = ()

    def able(self) -> list[Point]:
        """The points that meet the budget."""
        return [one for one in self.points if meets(self.goals, one.outcome)]

    def front(self) -> list[Point]:
        """The points that nothing beats, of those that meet the budget where any does."""
        return best(self.able() or self.points, self.objectives)

    def dominating(self) -> list[Read]:
        """The points that meet the budget on the test split and dominate every reference there."""
        return [one for one in self.tested if one.meets and one.dominates]

    def volume(self) -> float:
        """The hypervolume of the points that meet the budget, each cost as a share of the untouched model's: bytes of
        those in 16 bits, seconds of its own, and of accuracy what is lost in ``REFERENCE_LOSS``. Below (1, 1, 1)."""
        return hypervolume([shared(one.outcome, self.objectives, self.base) for one in self.able()], (1.0, 1.0, 1.0))

    def binds(self) -> str | None:
        """Which goal binds where no point meets the budget, and the nearest point."""
        found = binding(self.goals, self.points)
        if found is None:
            return None
        shown = ", ".join(f"{name} {said(one.value)}" for name, one in found.point.outcome.values.items())
        return (f"{found.goal.text}: the nearest point, {found.point.number}, misses it by {100 * found.by:.0f} % "
                f"({shown})")  # fmt: skip


def shared(outcome: Outcome, objectives: Sequence[Objective], base: Mapping[str, float]) -> tuple[float, ...]:
    """The costs of a point as shares of the untouched model's."""
    found = []
    for one in objectives:
        value = outcome.values[one.name].value
        found.append(value / base[one.name] if one.goal == "min" else (base[one.name] - value) / REFERENCE_LOSS)
    return tuple(found)


def said(value: float) -> str:
    """A figure in four digits."""
    return f"{value:,.0f}" if value >= 10_000 else f"{value:.4g}"


def write(root: Path, found: Found) -> dict[str, Any]:
    """Write the recipes of the front, then ``search.json``, which names them; returns its content."""
    recipes = {one.number: f"recipes/{one.number:03d}.yaml" for one in found.front()}
    (root / "recipes").mkdir(exist_ok=True)
    for one in found.front():
        recipe = with_steps(found.recipe, one.steps)
        head = f"# Point {one.number} of trimtab search {found.name}; next: trimtab run {recipes[one.number]}\n"
        write_atomic(root / recipes[one.number], head + recipe.dump())
    for path in (root / "recipes").glob("*.yaml"):
        if f"recipes/{path.name}" not in recipes.values():
            path.unlink()  # of a point that was on the front before the search went on
    names = [one.name for one in found.objectives]
    document = {
        "format": 1, "name": found.name, "model": found.model, "seconds": round(found.seconds, 1),
        "budget_seconds": found.budget_seconds, "objectives": [asdict(one) for one in found.objectives],
        "points": [row(one, one.outcome, recipes, names) for one in found.points],
        "test": [row(one.point, one.outcome, recipes, names) | {"meets": one.meets, "against": one.against,
                 "dominates": one.dominates} for one in found.tested],
        "binding": found.binds(), "budget": [goal.text for goal in found.goals], "before": dict(found.base),
        "hypervolume": found.volume(), "readings": found.readings, "notes": list(found.notes),
    }  # fmt: skip
    write_atomic(root / FOUND, json.dumps(document, allow_nan=False, indent=1))
    return document


def row(point: Point, outcome: Outcome, recipes: Mapping[int, str], names: Sequence[str]) -> dict[str, Any]:
    """A point as ``search.json`` has it: figures that are no objective (``names``) are under ``also``."""
    values = {name: asdict(one) for name, one in outcome.values.items()}
    return {
        "number": point.number, "state": outcome.state, "pareto": point.number in recipes, "why": outcome.why,
        "knobs": dict(point.knobs), "steps": [one.model_dump(mode="json") for one in point.steps],
        "values": {name: value for name, value in values.items() if name in names},
        "also": {name: value for name, value in values.items() if name not in names},
        "lost": None if outcome.lost is None else asdict(outcome.lost), "asked": outcome.asked,
        "recipe": recipes.get(point.number), "seconds": outcome.seconds, "reference": point.reference,
    }  # fmt: skip
