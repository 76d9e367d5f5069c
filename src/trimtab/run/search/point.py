"""A point of a search: its knobs, the steps that they come to, and what was found out about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from trimtab.run.recipe import Step
from trimtab.run.search.front import Costs, pareto

State = Literal["complete", "stopped", "failed"]


@dataclass(frozen=True)
class Bounds:
    """A figure with its one-sided 95 % bounds, each alone; a counted one is its own bounds."""

    value: float
    low: float
    high: float

    @classmethod
    def counted(cls, value: float) -> Bounds:
        return cls(value, value, value)


@dataclass(frozen=True)
class Outcome:
    """``values`` by figure, ``lost``: the drop of accuracy from the untouched model on the ``asked`` questions, in
    pairs; ``why`` it was stopped or failed. ``seconds`` in all, ``spent``: on what."""

    state: State
    why: str = ""
    values: Mapping[str, Bounds] = field(default_factory=dict)
    lost: Bounds | None = None
    asked: int = 0
    seconds: float = 0.0
    spent: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Plain data; ``of`` reads it back."""
        return asdict(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Outcome:
        values = {name: Bounds(**one) for name, one in row["values"].items()}
        lost = None if row["lost"] is None else Bounds(**row["lost"])
        return cls(**(dict(row) | {"values": values, "lost": lost}))


@dataclass(frozen=True)
class Point:
    """``knobs`` are empty for a reference whose steps no knobs come to."""

    number: int
    knobs: Mapping[str, Any]
    steps: tuple[Step, ...]
    outcome: Outcome
    reference: str | None = None


@dataclass(frozen=True)
class Objective:
    """A figure, its unit, and which way is better."""

    name: str
    unit: str
    goal: Literal["min", "max"]


def objectives(batch_size: int, task: str) -> tuple[Objective, ...]:
    """Bytes of the weights, seconds of the language prefill of ``batch_size`` prompts, and right answers."""
    return (Objective("bytes.weights", "bytes", "min"), Objective(f"latency.prefill.b{batch_size}", "s", "min"),
            Objective(f"accuracy.{task}", "share", "max"))  # fmt: skip


def costs(values: Mapping[str, Bounds], given: Sequence[Objective]) -> Costs:
    """The figures of a point as costs, in the order of the objectives. Raises KeyError where one was not taken."""
    return tuple(values[one.name].value * (1 if one.goal == "min" else -1) for one in given)


def best(points: Sequence[Point], given: Sequence[Objective]) -> list[Point]:
    """Those of the complete points that no other dominates."""
    whole = [point for point in points if point.outcome.state == "complete"]
    return [whole[index] for index in pareto([costs(point.outcome.values, given) for point in whole])]
