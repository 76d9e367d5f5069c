"""Reads ``search.json``: what a search under a budget tried, what each trial measured, and which none beats."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trimtab.core.errors import BadInput, Refused
from trimtab.report.figures import label
from trimtab.report.privacy import scrubber
from trimtab.report.say import Spread

FILE, FORMAT = "search.json", 1
GOALS = ("min", "max")


@dataclass(frozen=True)
class Objective:
    """A figure that was searched; ``goal``: min or max."""

    name: str
    unit: str
    goal: str

    @property
    def label(self) -> str:
        return label(self.name)

    def better(self, one: float, other: float) -> bool:
        return one < other if self.goal == "min" else one > other


@dataclass(frozen=True)
class Value:
    value: float
    spread: Spread | None


@dataclass(frozen=True)
class Trial:
    """A point of the search; ``pareto``: no other is as good in every objective and better in one. ``steps``: what is
    done to the model, in words. ``reference``: the name of a fixed recipe that was tried beside what the search
    proposed."""

    number: int
    state: str
    pareto: bool
    why: str
    steps: str
    values: dict[str, Value]
    recipe: str
    seconds: float
    reference: str


@dataclass(frozen=True)
class Search:
    """``test``: trials measured once more, on the test split. ``binding``: the limit that held the search back."""

    name: str
    model: str
    seconds: float
    budget: float | None
    objectives: tuple[Objective, ...]
    points: tuple[Trial, ...]
    test: tuple[Trial, ...]
    binding: str


def read(folder: Path) -> Search:
    """The search in ``folder``, without private names. Raises BadInput on a missing or damaged file, Refused on a newer
    format."""
    path = Path(folder) / FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; is this the folder of a search?") from None
    except ValueError as error:
        raise BadInput(f"{path}: not valid JSON ({error})") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        got = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
        raise Refused(f"{path}: format {got!r}; this version reads format {FORMAT}")
    hidden = scrubber(_recipes(Path(folder)), str(raw.get("model") or ""))
    return _search(hidden(raw), path)


def _recipes(folder: Path) -> list[dict[str, Any]]:
    """The recipes that were tried: they know the paths and prompts that no page may hold."""
    found = []
    for path in sorted(folder.glob("recipes/*.yaml")) + sorted(folder.glob("*.yaml")):
        try:
            recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise BadInput(f"{path}: not YAML ({type(error).__name__})") from error
        found += [recipe] if isinstance(recipe, dict) else []
    return found


def _search(raw: dict[str, Any], path: Path) -> Search:
    given = enumerate(raw.get("objectives") or ())
    objectives = tuple(_objective(row, f"{path}: objectives.{at}") for at, row in given)
    if len(objectives) < 2:
        raise BadInput(f"{path}: objectives: got {len(objectives)}; a search has two or more")
    names = [one.name for one in objectives]
    points, test = (tuple(_trial(row, names, f"{path}: {key}.{at}") for at, row in enumerate(raw.get(key) or ()))
                    for key in ("points", "test"))  # fmt: skip
    return Search(str(raw.get("name") or path.parent.name), str(raw.get("model") or ""), float(raw.get("seconds") or 0),
                  raw.get("budget_seconds"), objectives, points, test, str(raw.get("binding") or ""))  # fmt: skip


def _objective(row: dict[str, Any], where: str) -> Objective:
    if row.get("goal") not in GOALS or not row.get("name"):
        raise BadInput(f"{where}: got {row!r}; accepted: name, unit, and a goal of {' or '.join(GOALS)}")
    return Objective(str(row["name"]), str(row.get("unit") or ""), row["goal"])


def _trial(row: dict[str, Any], names: Sequence[str], where: str) -> Trial:
    if "number" not in row:
        raise BadInput(f"{where}: no number; a point has number, state, pareto, knobs and values")
    values = {}
    for name, given in (row.get("values") or {}).items():
        if name not in names or not isinstance(given, dict) or given.get("value") is None:
            raise BadInput(f"{where}: values.{name}: got {given!r}; accepted: a value for {', '.join(names)}")
        low, high = given.get("low"), given.get("high")
        ends = (float(low), float(high)) if low is not None and high is not None and low != high else None
        values[name] = Value(float(given["value"]), ends)
    return Trial(int(row["number"]), str(row.get("state") or ""), bool(row.get("pareto")), str(row.get("why") or ""),
                 said(row.get("steps") or ()), values, str(row.get("recipe") or ""), float(row.get("seconds") or 0),
                 str(row.get("reference") or ""))  # fmt: skip


def said(steps: Iterable[Mapping[str, Any]]) -> str:
    """Steps, shortly: ``gptq 4 language; divprune 0.5``."""
    return "; ".join(_step(str(method), knobs or {}) for one in steps for method, knobs in one.items())


def _step(method: str, knobs: Mapping[str, Any]) -> str:
    told = [str(knobs[name]) for name in ("bits", "pattern", "capacity", "r") if name in knobs]
    told = told or [str(knobs[name]) for name in ("keep",) if name in knobs]
    return " ".join([method, *told, *map(str, knobs.get("targets") or ())])


def front(trials: Iterable[Trial], x: Objective, y: Objective) -> list[Trial]:
    """Of complete trials those that no other is as good as in both objectives and better in one, by their x."""
    found = [one for one in trials if one.state == "complete" and x.name in one.values and y.name in one.values]
    for by in (y, x):  # the best x first, of equals the best y
        found.sort(key=lambda one: one.values[by.name].value, reverse=by.goal == "max")
    kept: list[Trial] = []
    for one in found:
        last = kept[-1].values if kept else None
        if last is None or y.better(one.values[y.name].value, last[y.name].value) or (
            one.values[x.name].value == last[x.name].value and one.values[y.name].value == last[y.name].value
        ):  # fmt: skip
            kept.append(one)
    return kept
