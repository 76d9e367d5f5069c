"""Optuna's study of a search: what was tried lies in a journal that survives a kill, and the next try follows from it.

The journal is Optuna's own form, a JSON object a line, written by ours: every line is synced, one that a kill tore in
half is cut off at the next opening, and no lock file stays behind. Nothing in it is pickled. A try that was under way
keeps its number, and the sampler of each is made anew from (seed, number): a search that was killed goes on as it would
have.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from trimtab.run.journal import append, whole_lines
from trimtab.run.recipe import Step
from trimtab.run.search.compose import Choice, key
from trimtab.run.search.front import Costs
from trimtab.run.search.point import Outcome, Point
from trimtab.run.search.space import Knob, Space

NAME = "search"
STARTUP = 8
"""Tries before the sampler draws any conclusion; the enqueued ones count."""
CANDIDATES = 64
"""Of which the sampler takes the likeliest to be good (Optuna has 24); they cost nothing beside a try."""
ATTEMPTS, STUBBORN = 100, 20
"""How often something new is looked for, and after how many repeats it is drawn at random."""
How = Literal["tpe", "random"]


class Lines(BaseJournalBackend):
    """Optuna's journal in a file that one process at a time has."""

    def __init__(self, path: Path) -> None:
        self.path, self.logs = path, whole_lines(path)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The logs from that number on."""
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add logs and sync them."""
        append(self.path, logs)
        self.logs += json.loads(json.dumps(logs))


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's own log on standard error, and its warnings of what is experimental; as they were afterwards."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@dataclass(frozen=True)
class Try:
    """What is to be tried: an open trial of Optuna's, and the point's knobs and steps."""

    trial: Trial
    knobs: Mapping[str, Any]
    steps: tuple[Step, ...]
    reference: str | None


@dataclass(frozen=True)
class Start:
    """Something to try before the sampler draws: ``knobs``, or ``steps`` where no knobs come to them."""

    steps: tuple[Step, ...]
    knobs: Mapping[str, Choice] | None = None
    reference: str | None = None


class Tries:
    """A study in a folder, with what was found out about each try."""

    def __init__(self, path: Path, space: Space, goals: Sequence[str], seed: int, how: How) -> None:
        self.space, self.seed, self.how = space, seed, how
        directions = ["minimize" if one == "min" else "maximize" for one in goals]
        self.study = optuna.create_study(
            storage=JournalStorage(Lines(path)), study_name=NAME, directions=directions, load_if_exists=True,
            sampler=RandomSampler(seed=seed),
        )  # fmt: skip

    def begin(self, starts: Sequence[Start]) -> None:
        """Put the starts before everything else, those that are not there yet."""
        there = {trial.user_attrs.get("start") for trial in self._trials()}
        for index, start in enumerate(starts):
            if index not in there:
                self._enqueue(start, {"start": index})

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _enqueue(self, start: Start, more: dict[str, Any]) -> None:
        said: dict[str, Any] = {} if start.reference is None else {"reference": start.reference}
        if start.knobs is None:
            said["steps"] = [one.model_dump() for one in start.steps]
        params = {} if start.knobs is None else {
            knob.name: knob.choices.index(start.knobs[knob.name]) if knob.ordered else start.knobs[knob.name]
            for knob in self.space.knobs
        }  # fmt: skip
        self.study.enqueue_trial(params, user_attrs=said | more)

    def ask(self) -> Try | None:
        """What to try next: what was under way when a search was killed, the starts, then what the sampler draws; never
        what was tried. None where nothing new is found."""
        known = {key(point.steps) for point in self.points()}
        for _ in range(ATTEMPTS):
            trial = self._next()
            if trial is None:
                continue
            given = trial.user_attrs.get("steps")
            values = {} if given else {knob.name: suggested(trial, knob) for knob in self.space.knobs}
            steps = tuple(map(Step.model_validate, given)) if given else self.space.steps(values)
            if steps and key(steps) not in known:
                return Try(trial, values, steps, trial.user_attrs.get("reference"))
            self.study.tell(trial, state=TrialState.FAIL)
        return None

    def _next(self) -> Trial | None:
        """An open trial; None for one that had ended but for its last line, which is written now."""
        running = self._trials(TrialState.RUNNING)
        number = running[0].number if running else len(self._trials())
        self.study.sampler = self._sampler(number)
        if not running:
            return self.study.ask()
        if "point" not in running[0].user_attrs:
            return Trial(self.study, running[0]._trial_id)
        self._close(number, running[0].user_attrs["point"]["told"])
        return None

    def _sampler(self, number: int) -> BaseSampler:
        seed = random.Random(f"{self.seed}/{number}").getrandbits(32)
        repeats = 0
        for trial in reversed(self._trials()[:number]):
            if "point" in trial.user_attrs:
                break
            repeats += 1
        if self.how == "random" or repeats >= STUBBORN:
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=STARTUP, n_ei_candidates=CANDIDATES, multivariate=True)

    def tell(self, one: Try, outcome: Outcome, costs: Costs | None, constraints: Mapping[str, float]) -> None:
        """Record what was found out. ``costs`` in the directions of the study, None for what failed; a constraint is
        met at 0 or less."""
        about = {"knobs": dict(one.knobs), "steps": [step.model_dump() for step in one.steps]}
        told = None if costs is None or not one.knobs else list(costs)
        for axis, value in constraints.items():
            one.trial.set_constraint(axis, value)
        one.trial.set_user_attr("point", about | {"outcome": outcome.row(), "told": told})
        self._close(one.trial.number, told)

    def _close(self, number: int, told: list[float] | None) -> None:
        """What failed, or has no knobs, teaches the sampler nothing."""
        if told is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, told)

    def points(self) -> list[Point]:
        """What was tried and told of, in order."""
        return [_point(trial) for trial in self._trials() if "point" in trial.user_attrs]


def suggested(trial: Trial, knob: Knob) -> Choice:
    """A choice; of an ordered knob its index is drawn, so that the sampler knows which are alike."""
    if knob.ordered:
        return knob.choices[trial.suggest_int(knob.name, 0, len(knob.choices) - 1)]
    found: Choice = trial.suggest_categorical(knob.name, knob.choices)
    return found


def _point(trial: FrozenTrial) -> Point:
    about = trial.user_attrs["point"]
    steps = tuple(map(Step.model_validate, about["steps"]))
    return Point(trial.number, about["knobs"], steps, Outcome.of(about["outcome"]), trial.user_attrs.get("reference"))
