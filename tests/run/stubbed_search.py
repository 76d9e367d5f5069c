"""A search over made-up figures, in a process of its own that is killed as by ``kill -9`` in the middle of a try."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from kill import SERVER

from trimtab.run.recipe import Step
from trimtab.run.search.clock import Clock
from trimtab.run.search.compose import Shape, key
from trimtab.run.search.loop import loop
from trimtab.run.search.point import Bounds, Outcome, Point, costs, objectives
from trimtab.run.search.space import Knob, Space
from trimtab.run.search.study import Start, Tries, Try, quiet

OBJECTIVES = objectives(1, "made-up")
SPACE = Space(
    (
        Knob("method", ("gptq", "quantease"), "gptq", False),
        Knob("group_size", (32, 64), 64),
        Knob("bits.language", (2, 3, 4, 8, 16), 16),
        Knob("bits.vision", (2, 3, 4, 8, 16), 16),
        Knob("tokens.keep", (0.1, 0.25, 0.5, 1.0), 1.0),
        Knob("tokens.method", ("divprune", "tome"), "divprune", False),
    ),
    Shape(("vision", "language"), 12, 64),
)
LIMIT = 0.55


def starts() -> list[Start]:
    """One that no knobs come to, and two that they do."""
    four = SPACE.rest() | {"bits.language": 4, "bits.vision": 4}
    other = (Step.model_validate({"nf4": {"targets": ["language"]}}),)
    return [Start(other, None, "nf4"), Start(SPACE.steps(four), four, "four"),
            Start(SPACE.steps(four | {"tokens.keep": 0.25}), four | {"tokens.keep": 0.25})]  # fmt: skip


def outcome(steps: Sequence[Step]) -> Outcome:
    """Figures that follow from the steps alone; every seventh fails."""
    digest = hashlib.sha256(key(steps).encode()).digest()
    if digest[0] % 7 == 0:
        return Outcome("failed", "made up")
    names = [one.name for one in OBJECTIVES]
    values = {name: Bounds.counted(byte / 255) for name, byte in zip(names, digest[1:], strict=False)}
    return Outcome(
        "complete", "", values, Bounds.counted(digest[1] / 255), 1, 0.0, {"ask": 0.0, "trim": 0.0, "time": 0.0}
    )


def run(folder: Path, total: int, dies_at: int = 0, how: str = "tpe") -> list[Point]:
    """Try until there are ``total`` points; die within try number ``dies_at`` from here."""
    left = [dies_at]

    def trying(one: Try, points: Sequence[Point]) -> Outcome:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome(one.steps)

    def told(found: Outcome) -> tuple[tuple[float, ...] | None, dict[str, float]]:
        if found.state == "failed":
            return None, {}
        return costs(found.values, OBJECTIVES), {"weights": found.values["bytes.weights"].value - LIMIT}

    with quiet():
        tries = Tries(folder / "study.jsonl", SPACE, ["min", "min", "max"], 5, how)  # type: ignore[arg-type]
        tries.begin(starts())
        loop(tries, Clock(folder), trying, told, lambda one, points: len(points) < total)
        return tries.points()


def die(folder: Path, total: int, dies_at: int) -> int | None:
    """The exit status of a process that runs until it kills itself."""
    SERVER.set_forkserver_preload(["trimtab.run.search.study", "trimtab.run.engine", "trimtab.run.start"])
    process = SERVER.Process(target=run, args=(folder, total, dies_at))
    process.start()
    process.join(120)
    return process.exitcode
