"""What the other engine is asked: once, or twice where something is rounded behind which a wrong byte could hide.

An engine that rounds inputs in its own way is asked with rounding, by the rule of averages, and without on either side,
exactly. Weights that the format rounds are asked for themselves, exactly, and beside the artifact's by that rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trimtab.core.linear import Host
from trimtab.core.weight import Weight
from trimtab.export import gate, samples
from trimtab.export.forms import rounded, unround
from trimtab.load.loaded import Loaded


@dataclass(frozen=True)
class Question:
    """``samples``: what is answered. ``exact``: by the stricter rule. ``words``: for the check. ``name``: of the
    finding in what is written down, "" for the one that is reported. ``then``: what to do where the answer differs."""

    samples: Path
    exact: bool
    words: tuple[str, ...] = ()
    name: str = ""
    then: str = ""


def record(loaded: Loaded, place: Path, exact: bool, instead: Sequence[tuple[Host, Weight]] = ()) -> Sequence[Question]:
    """The questions in their order, each with its samples in the folder ``place``. ``exact``: whether the engine is
    held to every loss. ``instead``: hosts that hold what is written, with what the artifact holds there.

    ``loaded`` is in float32 and its linears round nothing afterwards. Raises as ``samples.record`` does."""
    first, second = place / "first.safetensors", place / "second.safetensors"
    samples.record(loaded, first)
    if instead:
        for host, w in instead:
            host.w = w
        samples.record(loaded, second)
        return (
            Question(first, exact, name="as_written"),
            Question(second, False, then="leave --k-quants out, or trim with more bits or larger groups"),
        )
    if rounded(loaded):
        unround(loaded)
        samples.record(loaded, second)
        return Question(first, False), Question(second, exact, ("unrounded",), "unrounded")
    return (Question(first, exact),)


def ask(check: Path, folder: Path, questions: Sequence[Question]) -> tuple[gate.Found, dict[str, Any]]:
    """What was found of the question without a name, and all findings as they are written down. Raises Anomaly as
    ``gate.judge`` does."""
    answers = {one.name: gate.judge(check, folder, one.samples, one.exact, *one.words, then=one.then)
               for one in questions}  # fmt: skip
    named = {name: asdict(found) for name, found in answers.items() if name}
    return answers[""], asdict(answers[""]) | named
