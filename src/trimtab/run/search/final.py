"""The one reading of the test split: a handful of points against the references, by pairs and in turn.

Chosen on the training side alone. A point dominates a reference where, on the test questions and in the same rounds,

    its bytes are fewer (counted), the upper bound of its prefill over the reference's is below 1,
    and the upper bound of what it lost against the reference is at most what the budget allows to lose

To dominate all of them every single claim must hold, each at the level, which needs no correction (an intersection-
union test, Berger 1982); for m points each bound is taken at 5 % / m (Bonferroni), so that any of the points is wrongly
said to dominate in at most 5 % of searches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from trimtab.core.tensorfile import size_of
from trimtab.evaluate.paired import ALPHA, drop
from trimtab.evaluate.ratio import of_repeats
from trimtab.evaluate.shares import accuracy
from trimtab.load import tensors
from trimtab.run import timing
from trimtab.run.search.asking import Answers, Asking, named
from trimtab.run.search.bench import Bench, Times, in_turn, opened, sides_of
from trimtab.run.search.front import shares
from trimtab.run.search.goals import Goal, meets
from trimtab.run.search.point import Bounds, Objective, Outcome, Point, best, costs
from trimtab.run.search.trying import REPEATS

FINALISTS = 4
MARGIN = 0.01
"""Of accuracy that a point may lose against a reference, where no budget says how much may be lost."""
BEFORE = "before"


def margin(goals: Sequence[Goal]) -> float:
    """What may be lost."""
    return next((goal.limit for goal in goals if goal.axis == "accuracy"), MARGIN)


def finalists(
    points: Sequence[Point], goals: Sequence[Goal], objectives: Sequence[Objective], most: int = FINALISTS
) -> list[Point]:
    """The points worth a reading: of those that meet the budget and that nothing beats, the ones that dominate most
    references on the folds; among these the most often right, then the cheapest (the product of the costs), then those
    that add most to the hypervolume."""
    able = [one for one in points if meets(goals, one.outcome)]
    front = [one for one in best(able, objectives) if one.reference is None]
    held = [one for one in points if one.reference is not None and one.outcome.state == "complete"]
    if not front:
        return []
    count = {one.number: sum(_better(one, other, objectives, margin(goals)) for other in held) for one in front}
    front = [one for one in front if count[one.number] == max(count.values())]
    every = {one.number: costs(one.outcome.values, objectives) for one in front}
    worst = tuple(max(cost) + 1e-9 for cost in zip(*(costs(one.outcome.values, objectives) for one in points
                  if one.outcome.state == "complete"), strict=True))  # fmt: skip
    adds = dict(zip(every, shares(list(every.values()), worst), strict=True))
    right = sorted(front, key=lambda one: (every[one.number][-1], _product(every[one.number])))
    cheap = sorted(front, key=lambda one: _product(every[one.number]))
    broad = sorted(front, key=lambda one: -adds[one.number])
    chosen = {one.number: one for one in [right[0], cheap[0], *right[1:2], *broad]}
    return list(chosen.values())[:most]


def _product(given: Sequence[float]) -> float:
    return given[0] * given[1]


def _better(one: Point, other: Point, objectives: Sequence[Objective], allowed: float) -> bool:
    mine, its = costs(one.outcome.values, objectives), costs(other.outcome.values, objectives)
    return mine[0] < its[0] and mine[1] < its[1] and mine[2] <= its[2] + allowed / 2


@dataclass(frozen=True)
class Read:
    """A point on the test split. ``against``: by reference the ratio of bytes, the bounds of the ratio of seconds and
    of what was lost, and whether it dominates."""

    point: Point
    outcome: Outcome
    meets: bool
    against: Mapping[str, Mapping[str, Any]]

    @property
    def dominates(self) -> bool:
        """All references that there are."""
        return bool(self.against) and all(one["dominates"] for one in self.against.values())


def read(
    bench: Bench, asking: Asking, given: Sequence[Point], goals: Sequence[Goal], objectives: Sequence[Objective],
    base: Mapping[str, float],
) -> list[Read]:  # fmt: skip
    """Finalists and references ``given``, all in memory beside the untouched model; figures that a reading does not
    take are those that the search has. Seconds are ratios times ``base``, the untouched model's."""
    recipe = bench.context.recipe
    models = {BEFORE: bench.untouched} | {str(one.number): bench.trim(one.steps, opened(recipe)) for one in given}
    answers: dict[str, Answers] = {}
    for name, loaded in models.items():
        steps = () if name == BEFORE else next(one.steps for one in given if str(one.number) == name)
        told = f"test {name}"
        answers[name] = asking.all(named(steps), loaded, lambda done, total: bench.context.progress(told, done, total))  # noqa: B023
    batch = timing.prompts(bench.context, recipe.measure.batch_size)
    times = in_turn(sides_of(models, batch), max(REPEATS, recipe.measure.repeats))
    held = {name: float(size_of(tensors.collect(loaded.library)[0])) for name, loaded in models.items()}
    alpha = ALPHA / max(1, sum(one.reference is None for one in given))
    pairs = Pairs(answers, times, held, alpha, margin(goals))
    others = {str(one.number): one.reference for one in given if one.reference is not None}
    found = []
    for one in given:
        name = str(one.number)
        outcome = pairs.outcome(name, objectives, base)
        outcome = replace(outcome, values=dict(one.outcome.values) | dict(outcome.values))
        against = {} if one.reference else {str(said): pairs.against(name, other) for other, said in others.items()}
        found.append(Read(one, outcome, meets(goals, outcome), against))
    return found


@dataclass(frozen=True)
class Pairs:
    """Answers, seconds and bytes of several models, by name; every bound at the level ``alpha``."""

    answers: Mapping[str, Answers]
    times: Mapping[str, Times]
    held: Mapping[str, float]
    alpha: float
    allowed: float

    def outcome(self, name: str, objectives: Sequence[Objective], base: Mapping[str, float]) -> Outcome:
        """The figures of one model, its seconds and its loss in pairs with the untouched one."""
        right = accuracy("", self.answers[name])
        low, high = right.spread or (0.0, 1.0)
        ratio, scale = self.ratio(BEFORE, name), base[objectives[1].name]
        made = (Bounds.counted(self.held[name]), Bounds(ratio.value * scale, ratio.low * scale, ratio.high * scale),
                Bounds(right.value, low, high))  # fmt: skip
        values = {one.name: bounds for one, bounds in zip(objectives, made, strict=True)}
        return Outcome("complete", "", values, self.lost(BEFORE, name), len(self.answers[name]))

    def ratio(self, other: str, name: str) -> Bounds:
        """Seconds over those of the other."""
        found = of_repeats(self.times[other]["prefill"], self.times[name]["prefill"], self.alpha)
        return Bounds(found.value, found.low, found.high)

    def lost(self, other: str, name: str) -> Bounds:
        """The drop of accuracy from the other."""
        found = drop(self.answers[other], self.answers[name], self.alpha)
        return Bounds(found.value, found.low, found.high)

    def against(self, name: str, other: str) -> dict[str, Any]:
        """Whether one dominates the other, and by what."""
        size, ratio, lost = self.held[name] / self.held[other], self.ratio(other, name), self.lost(other, name)
        sure = size < 1 and ratio.high < 1 and lost.high <= self.allowed
        return {"bytes": size, "prefill": asdict(ratio), "lost": asdict(lost), "dominates": sure}
