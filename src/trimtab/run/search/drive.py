"""The door of a search, new or gone on with: try points until the minutes are over, then read the test split once.

    load -> audit of calibration -> the untouched model's figures -> references -> points -> test -> files

Everything that ended is in ``state/``; a search that is killed loses the point under way, whose answers it finds again.
One that has ended and gets more minutes goes on, and its next reading of the test split is on questions that no reading
has had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trimtab.core.errors import BadInput
from trimtab.run import machine
from trimtab.run.context import Context, Progress, silent
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal
from trimtab.run.recipe import Recipe
from trimtab.run.search import place, starts
from trimtab.run.search.asking import Asking
from trimtab.run.search.clock import Clock, Pace, expected, reserve
from trimtab.run.search.final import FINALISTS, Read, finalists, read
from trimtab.run.search.front import Costs
from trimtab.run.search.goals import violations
from trimtab.run.search.ground import Ground
from trimtab.run.search.loop import Told, loop
from trimtab.run.search.place import Wanted
from trimtab.run.search.point import Bounds, Outcome, Point
from trimtab.run.search.study import Tries, Try, quiet
from trimtab.run.search.trying import REPEATS
from trimtab.run.search.write import Found, write
from trimtab.run.start import logged


def search(
    wanted: Wanted | None, out: str | Path, minutes: float, progress: Progress = silent, last: bool = True
) -> Found:
    """Search, or go on with what is in ``out`` (``wanted`` None: whatever that is), until ``minutes`` were spent in
    all, the reading of the test split included; without ``last`` it is not read. Raises BadInput for what cannot be
    searched, TrimtabError as runs do; a budget that nothing meets is no error but ``Found.binds``."""
    root = Path(out)
    given = wanted or place.stored(root)
    if given is None:
        raise BadInput(f"--out: {root} holds no search (no {place.RESOLVED}); name a recipe to begin one")
    place.begin(root, given)
    state = Folder(root).state
    with place.alone(state), quiet():
        journal = Journal(state)
        _same(journal, given.recipe)
        context = Context(given.recipe, given.name, Folder(state / "bench"), journal, progress)
        with logged(root / "run.log"):
            return Search(root, given, context, 60 * minutes, last).go()


def _same(journal: Journal, recipe: Recipe) -> None:
    if "begin" in journal.ended:
        machine.same(journal.ended["begin"]["result"]["conditions"])
    elif recipe.threads:
        torch.set_num_threads(recipe.threads)
    journal.stage("begin", lambda: {"conditions": machine.conditions()})


@dataclass
class Search:
    """One search under way."""

    root: Path
    wanted: Wanted
    context: Context
    seconds: float
    last: bool = True

    def go(self) -> Found:
        """To the end, or what there is where it has ended."""
        state = Folder(self.root).state
        clock, ground = Clock(state), Ground(self.context, self.wanted, state)
        directions = [one.goal for one in ground.objectives]
        tries = Tries(state / "study.jsonl", ground.space, directions, self.wanted.seed, self.wanted.sampler)
        tries.begin([*starts.references(self.wanted.recipe, self.wanted.name, ground.space),
                     *starts.likely(ground.space)])  # fmt: skip
        exhausted = self._loop(ground, clock, tries)
        tested = self._tested(ground, tries.points()) if self.last else []
        clock.tick()
        found = Found(
            self.wanted.name, ground.model, self.wanted.recipe, ground.goals, ground.objectives,
            tries.points(), ground.base, clock.spent(), self.seconds, tested, len(self._readings()),
            [*ground.notes(), *(["Nothing new is left to try in this space"] if exhausted else [])],
        )  # fmt: skip
        write(self.root, found)
        return found

    def _loop(self, ground: Ground, clock: Clock, tries: Tries) -> bool:
        recipe = self.wanted.recipe
        most = recipe.task.limit or recipe.evaluate.limit
        pace = Pace(1 + FINALISTS + len(starts.references(recipe, self.wanted.name, ground.space)), most,
                    max(REPEATS, recipe.measure.repeats))  # fmt: skip

        def fits(one: Try, points: Sequence[Point]) -> bool:
            ahead = expected(one.steps, points) + (reserve(points, pace, REPEATS) if self.last else 0.0)
            return one.reference is not None or clock.spent() + ahead <= self.seconds

        def trying(one: Try, points: Sequence[Point]) -> Outcome:
            return ground.trying(one.steps, points, whole=one.reference is not None)

        def told(outcome: Outcome) -> Told:
            failed = outcome.state == "failed"
            return None if failed else filled(outcome, ground), violations(ground.goals, outcome)

        def after(one: Try, outcome: Outcome) -> None:
            shown = ", ".join(f"{name} {value.value:.6g}" for name, value in outcome.values.items())
            self.context.log.info("point %d: %s; %s %s", one.trial.number, shown, outcome.state, outcome.why)
            self.context.progress("search", min(int(clock.spent()), int(self.seconds)), int(self.seconds))

        return loop(tries, clock, trying, told, fits, after)

    def _stages(self) -> list[dict[str, Any]]:
        """What became of each end of the search: a reading, or none."""
        ended = self.context.journal.ended
        return [ended[key]["result"] for key in ended if key.startswith("test ")]

    def _readings(self) -> list[dict[str, Any]]:
        """The readings of the test split so far."""
        return [one for one in self._stages() if one["rows"]]

    def _tested(self, ground: Ground, points: Sequence[Point]) -> list[Read]:
        """The reading of what was found, a new one where points were tried since the last. Which points are read is
        written down before the first question, so that a reading that was killed goes on with the same."""
        stage, known = self.context.journal.stage, {one.number: one for one in points}
        while not (every := self._stages()) or every[-1]["tried"] != len(points):
            at, number = len(every), len(self._readings())
            chosen = stage(f"finalists {at}", lambda: self._finalists(ground, points, number))  # noqa: B023
            stage(f"test {at}", lambda: self._read(ground, chosen, known, number))  # noqa: B023
        made = self._readings()
        return _reads(made[-1], known) if made else []

    def _finalists(self, ground: Ground, points: Sequence[Point], number: int) -> dict[str, Any]:
        """None where no point is worth it, or no question is left that was not read."""
        chosen = finalists(points, ground.goals, ground.objectives)
        held = [one for one in points if one.reference is not None and one.outcome.state == "complete"]
        worth = chosen and ground.unread(number)
        return {"tried": len(points), "numbers": [one.number for one in (*held, *chosen)] if worth else []}

    def _read(
        self, ground: Ground, chosen: Mapping[str, Any], known: Mapping[int, Point], number: int
    ) -> dict[str, Any]:
        """Reading ``number`` of the test split."""
        if not chosen["numbers"]:
            return {"tried": chosen["tried"], "rows": []}
        asking = Asking(self.wanted.recipe, ground.unread(number), ground.state / f"test-{number}")
        given = [known[one] for one in chosen["numbers"]]
        found = read(ground.bench, asking, given, ground.goals, ground.objectives, ground.base)
        rows = [{"number": one.point.number, "outcome": one.outcome.row(), "meets": one.meets,
                 "against": dict(one.against)} for one in found]  # fmt: skip
        return {"tried": chosen["tried"], "rows": rows}


def _reads(row: Mapping[str, Any], known: Mapping[int, Point]) -> list[Read]:
    return [Read(known[one["number"]], Outcome.of(one["outcome"]), one["meets"], one["against"]) for one in row["rows"]]


def filled(outcome: Outcome, ground: Ground) -> Costs:
    """The costs of a point for the sampler; where a figure was not taken, since the point was foreseen to break the
    budget, the untouched model's seconds and no right answer stand in. (It is infeasible, and not ordered by them.)"""
    rest = {one.name: Bounds.counted(ground.base[one.name] if one.goal == "min" else 0.0) for one in ground.objectives}
    values = rest | dict(outcome.values)
    return tuple(values[one.name].value for one in ground.objectives)
