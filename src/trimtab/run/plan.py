"""``trimtab plan``: what a recipe will weigh, whether its shapes fit, what time and memory it will take, from the
config alone, on the meta device.

Costs are foreseen, never accuracy. An interval is the value over and times ``REACH`` of its kind: what nine of ten
predictions of other models kept to (``make bench-plan``); figures that are counted have none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trimtab import methods
from trimtab.anatomy import Anatomy
from trimtab.core.errors import BadInput, Refused
from trimtab.load.blank import Blank, opened
from trimtab.measure.ceilings import Ceilings
from trimtab.measure.params import parameters
from trimtab.measure.roofline import Roof
from trimtab.run import needs
from trimtab.run.allocate import unpaid
from trimtab.run.follow import clashes, targeted
from trimtab.run.forecast import Forecast
from trimtab.run.placed import roofline
from trimtab.run.prospect import Prospect, prospect
from trimtab.run.recipe import Recipe

REACH: Mapping[str, float] = {
    "latency": 1.3, "seconds": 1.6, "seconds.step": 2.5, "memory": 1.25, "flops": 1.0, "bytes": 1.0,
}  # fmt: skip
"""By how a figure's name begins; a step's fits are foreseen from matrices that are far smaller."""


@dataclass(frozen=True)
class Guess:
    """A figure that was foreseen: ``before`` or ``after`` the steps, or of the ``run`` itself, under the name that the
    figure has where it is measured."""

    when: str
    figure: str
    predicted: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Plan:
    """``bytes16`` of the model in 16 bits, ``bytes`` as the recipe leaves it (``at_most``: where a method decides by
    the weights' values, the most that it may be), ``problems`` that would stop the run. ``guesses``: times and memory,
    where ceilings were given; ``machine`` whose they are; ``roofline``: where operations lie under these;
    ``unforeseen``: why there are none."""

    model: str
    parameters: int
    bytes16: int
    bytes: int
    problems: tuple[str, ...]
    at_most: bool = False
    guesses: tuple[Guess, ...] = ()
    machine: str = ""
    unforeseen: str = ""
    roofline: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.bytes / self.bytes16, "feasible": not self.problems}

    @property
    def seconds(self) -> float | None:
        """Of the whole run, None where it was not foreseen."""
        return next((one.predicted for one in self.guesses if one.figure == "seconds.total"), None)


def plan(recipe: Recipe, known: Ceilings | None = None, roof: Roof | None = None, convert: bool = False) -> Plan:
    """The plan of a recipe; ``known``: this machine, for times; ``roof``: another one that shall run the model's
    forward passes; ``convert``: a GGUF file too. Raises BadInput where the model's config cannot be had."""
    begun = time.monotonic()
    found = opened(recipe.model, recipe.revision, convert)
    opening = time.monotonic() - begun
    anatomy = found.anatomy
    standing = found.policies or ()
    after = prospect(anatomy, recipe.steps, standing)
    before = None if found.policies is None else prospect(anatomy, (), standing)
    problems = [*_unpaid(anatomy, recipe), *after.problems, *clashes(anatomy, recipe.steps)]
    whole, trimmed = bits_of(anatomy, after)
    guesses: tuple[Guess, ...] = ()
    why, machine = "", ""
    drawn: Mapping[str, Any] = {}
    if known is not None and not problems:
        machine = roof.name if roof is not None else str(known.machine.get("processor", ""))
        told = Forecast(recipe, anatomy, known, after, found.processor, whole / 8, trimmed / 8, roof, before,
                        opening)  # fmt: skip
        try:
            guesses, drawn = tuple(guessed(told, found)), roofline(told)
        except (BadInput, Refused) as error:
            why = str(error)
    sizes = whole // 16, whole // 8, trimmed // 8
    return Plan(recipe.model, *sizes, tuple(problems), after.at_most, guesses, machine, why, drawn)


def _unpaid(anatomy: Anatomy, recipe: Recipe) -> Iterator[str]:
    hosts = dict(anatomy.embeddings()) | dict(anatomy.linears())
    for index, step in enumerate(recipe.steps):
        method = methods.make(step.method, step.knobs)
        if hasattr(method, "stored"):
            yield from unpaid(f"steps.{index}", method, [hosts[name].w for name in targeted(anatomy, step, method)])


def bits_of(anatomy: Anatomy, after: Prospect) -> tuple[int, int]:
    """Of the model in 16 bits, and as it will be left; tied matrices once."""
    hosts = dict(anatomy.embeddings()) | dict(anatomy.linears())
    tied = {second for _, second in anatomy.aliases()}
    inside = sum(16 * h.w.shape[0] * h.w.shape[1] for name, h in hosts.items() if name not in tied)
    whole = 16 * parameters(anatomy.model)
    return whole, whole - inside + sum(size for name, size in after.bits.items() if name not in tied)


def guessed(told: Forecast, found: Blank) -> Iterator[Guess]:
    """Every figure that a run will measure and a plan can foresee."""
    for when, sizes in told.measured.items():
        for size, phases in sizes.items():
            for name, phase in phases.items():
                yield _guess(when, f"latency.{name}.b{size}", phase.seconds, "s")
                if size == 1 and name != "decode":
                    yield _guess(when, f"flops.{name}", sum(one.flops for one in phase.operations), "flop")
    yield _guess("after", "bytes.weights", told.bytes, "bytes")
    for when, value in needs.both(told, found).items():
        yield _guess(when, "memory.peak", value, "bytes")
    yield _guess("run", "memory.peak", needs.working(told, found), "bytes")
    stages = told.stages()
    for name, seconds in stages.items():
        yield _guess("run", f"seconds.{name}", seconds, "s")
    yield _guess("run", "seconds.total", sum(stages.values()), "s")


def _guess(when: str, figure: str, value: float, unit: str) -> Guess:
    reach = REACH[max((start for start in REACH if figure.startswith(start)), key=len)]
    return Guess(when, figure, value, value / reach, value * reach, unit)


def show(found: Plan) -> str:
    """The plan in a few lines."""
    lines = [
        f"model       {found.model}",
        f"            {found.parameters / 1e6:.1f} M parameters, {found.bytes16 / 1e6:.1f} MB in 16 bits",
        f"artifact    {'at most ' if found.at_most else ''}{found.bytes / 1e6:.1f} MB of weights, "
        f"{found.bytes / found.bytes16:.2f}x",
        *(f"problem     {problem}" for problem in found.problems),
        *_times(found),
    ]
    return "\n".join(lines)


def _times(found: Plan) -> Iterator[str]:
    if not found.guesses:
        yield f"times       not foreseen: {found.unforeseen}" if found.unforeseen else "times       not foreseen"
        return
    known = {(one.when, one.figure): one for one in found.guesses}
    yield f"machine     {found.machine}"
    for one in found.guesses:
        if one.when == "after" and one.figure.startswith("latency."):
            old = known.get(("before", one.figure))
            was = "" if old is None else f", {_ms(old.predicted)} before"
            name = one.figure.removeprefix("latency.")
            yield f"{name:11} {_ms(one.predicted)} ({_ms(one.low)} to {_ms(one.high)}){was}"
    for when, what in (("before", "memory was"), ("after", "memory is"), ("run", "to make it")):
        one = known[when, "memory.peak"]
        low, high = one.low / 1e6, one.high / 1e6
        yield f"{what:11} {one.predicted / 1e6:.0f} MB at its peak ({low:.0f} to {high:.0f})"
    for one in found.guesses:
        if one.figure.startswith("seconds."):
            name = one.figure.removeprefix("seconds.")
            yield f"{name[:24]:24} {_span(one.predicted)} ({_span(one.low)} to {_span(one.high)})"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
