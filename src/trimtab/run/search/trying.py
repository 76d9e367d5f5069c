"""One point from its steps to its figures, in the order of what they cost: refused, foreseen, trimmed, timed, asked.

A point whose bytes are foreseen to break the budget is not trimmed once a nearer one was measured; one that is surely
broken or beaten is asked no further (``stopping``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.core.errors import TrimtabError
from trimtab.core.tensorfile import size_of
from trimtab.evaluate.paired import drop
from trimtab.evaluate.ratio import of_repeats
from trimtab.evaluate.sequential import Look, level, looks
from trimtab.load import tensors
from trimtab.measure.vlm import parts
from trimtab.run.plan import plan
from trimtab.run.recipe import Step
from trimtab.run.search.asking import Answers, Asking, named
from trimtab.run.search.bench import Bench, cached, in_turn, with_steps
from trimtab.run.search.goals import Goal, distance, meets
from trimtab.run.search.point import Bounds, Objective, Outcome, Point
from trimtab.run.search.stopping import Rival, reason, rival

REPEATS = 15
"""Rounds of timing for a point, the untouched model in each: they bound a ratio to a few percent."""


@dataclass
class Trying:
    """``base``: the untouched model's figures, ``before``: its answers to all questions; ``prompts`` by batch size."""

    bench: Bench
    asking: Asking
    goals: Sequence[Goal]
    objectives: Sequence[Objective]
    base: Mapping[str, float]
    before: Answers
    prompts: Mapping[int, Any]
    repeats: int = REPEATS

    def __call__(self, given: Sequence[Step], points: Sequence[Point], whole: bool = False) -> Outcome:
        """What is found out about these steps; ``points``: those before; ``whole``: ask every question, whatever is
        foreseen. A point that the model or a method refuses is a failed one, which says why."""
        begun = time.monotonic()
        found = self._refused(given, [] if whole else points) or self._measured(given, points, whole)
        return replace(found, seconds=round(time.monotonic() - begun, 3))

    def _refused(self, given: Sequence[Step], points: Sequence[Point]) -> Outcome | None:
        """Why it is not trimmed, None where it is."""
        why = self.bench.refuses(given)
        if why is not None:
            return Outcome("failed", why)
        made = plan(with_steps(self.bench.context.recipe, given))
        if made.problems:
            return Outcome("failed", made.problems[0])
        goal = next((one for one in self.goals if one.axis == "weights"), None)
        if goal is None or made.at_most:
            return None
        over = made.bytes / goal.limit - 1
        nearest = min((distance(self.goals, one.outcome) for one in points), default=float("inf"))
        if over <= max(0.0, nearest):
            return None
        values = {"bytes.weights": Bounds.counted(float(made.bytes))}
        return Outcome("stopped", f"foreseen at {made.bytes / 1e6:.2f} MB, and the budget is {goal.text}", values)

    def _measured(self, given: Sequence[Step], points: Sequence[Point], whole: bool) -> Outcome:
        begun = time.monotonic()
        try:
            loaded = self.bench.trim(given)
        except TrimtabError as error:
            return Outcome("failed", str(error))
        fitted = time.monotonic()
        values = self._costs(loaded)
        timed = time.monotonic()
        found = self._asked(given, loaded, None if whole else self._rival(values, points), whole)
        found = replace(found, values=values | dict(found.values))
        spent = {"trim": fitted - begun, "time": timed - fitted, "ask": time.monotonic() - timed}
        return replace(found, spent={key: round(value, 3) for key, value in spent.items()})

    def _costs(self, loaded: Any) -> dict[str, Bounds]:
        """Bytes as an artifact's weight file would have them, and seconds: the ratio to the untouched model in the same
        rounds, times what that took when the search began."""
        held, _ = tensors.collect(loaded.library)
        found = {"bytes.weights": Bounds.counted(float(size_of(held)))}
        for size, batch in self.prompts.items():
            sides = {"before": parts(self.bench.untouched.model, batch), "after": parts(loaded.model, batch)}
            if f"bytes.cache.b{size}" in self.base:
                found[f"bytes.cache.b{size}"] = Bounds.counted(cached(sides["after"]))
            if f"latency.prefill.b{size}" not in self.base:
                continue
            times = in_turn(sides, self.repeats, f"latency.decode.b{size}" in self.base)
            for part in times["after"]:
                ratio = of_repeats(times["before"][part], times["after"][part])
                scale = self.base[f"latency.{part}.b{size}"]
                found[f"latency.{part}.b{size}"] = Bounds(scale * ratio.value, scale * ratio.low, scale * ratio.high)
        return found

    def _rival(self, values: dict[str, Bounds], points: Sequence[Point]) -> Rival | None:
        able = [one for one in points if meets(self.goals, one.outcome)]
        found = rival(values, able, self.objectives)
        return None if found is None else Rival(found.number, self.asking.known(named(found.steps)))

    def _asked(self, given: Sequence[Step], loaded: Any, other: Rival | None, whole: bool) -> Outcome:
        """The questions, look by look."""
        total = len(self.before)
        due = {look.n: look for look in self._looks() if look.n < total and not whole}
        most = next((goal.limit for goal in self.goals if goal.axis == "accuracy"), None)
        answers: Answers = []
        why = ""
        for answers in self.asking.answers(named(given), loaded):
            why = reason(answers, self.before, other, due[len(answers)], most) if len(answers) in due else ""
            if why:
                break
        lost = self._lost(answers)
        right = sum(one.score for one in answers) / len(answers)
        bounds = Bounds(right, max(0.0, right + lost.value - lost.high), min(1.0, right + lost.value - lost.low))
        name = next(one.name for one in self.objectives if one.goal == "max")
        return Outcome("stopped" if why else "complete", why, {name: bounds}, lost, len(answers))

    def _looks(self) -> tuple[Look, ...]:
        return looks(len(self.before), self.bench.context.recipe.evaluate.batch_size)

    def _lost(self, answers: Answers) -> Bounds:
        found = drop(self.before[: len(answers)], answers, level(self._looks(), len(answers)))
        return Bounds(found.value, found.low, found.high)
