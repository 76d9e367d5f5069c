"""``make bench-modality``: what image tokens should count when the decoder of a VLM is quantized.

    python benchmarks/modality.py [--questions N] [--samples N] [--bits B ...] [--only TEXT ...] [--out FILE]

The built-in model's decoder at 3 and 2 bits, tower and projector untouched in every arm, on easyvqa and easyvqa-grid.
Calibration and the sensitivity of the blocks are the task's own training side; nothing is chosen on the test side, of
which every arm answers the same questions once. The primary comparison stands in ``PRIMARY``, and in the kept file
before the first test question is asked: all others are told beside it. Differences are taken question by question with
two-sided 95 % intervals. Writes docs/measured-modality.md and prints, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from trimtab import methods
from trimtab.core.sensitivity import Sensitivity
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.paired import drop
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.vqa import arranged, predict
from trimtab.load.sources import open_source
from trimtab.measure.machine import facts
from trimtab.run import calibration, sensitivity
from trimtab.run.arms import Weigh
from trimtab.run.context import Context
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal
from trimtab.run.recipe import Recipe
from trimtab.run.walk import walk
from trimtab.run.weigh import maker

MODEL, TASKS, BITS, GROUP = "builtin:easyvqa-llava", ("easyvqa", "easyvqa-grid"), (3, 2), 64
BATCH, TWO_SIDED = 64, 0.025
ARMS: dict[str, tuple[str, Weigh]] = {
    "RTN": ("rtn", "pooled"),
    "GPTQ, text tokens only": ("gptq", "text"),
    "GPTQ, image tokens only": ("gptq", "image"),
    "GPTQ, pooled": ("gptq", "pooled"),
    "GPTQ, balanced": ("gptq", "balanced"),
    "MBQ": ("mbq", "pooled"),
    "AWQ": ("awq", "pooled"),
}
"""By what an arm is called: the method, and how its calibration weighs tokens."""
PLAIN = "GPTQ, pooled"
PRIMARY = ("easyvqa-grid", 2, "GPTQ, balanced", PLAIN)
"""Fixed before any test question was asked: the task, the bits, the arm, and the arm that it is held against."""
OUT = Path(__file__).resolve().parents[1] / "docs" / "measured-modality.md"


@dataclass(frozen=True)
class Ground:
    """What the arms of one task share: calibration, the sensitivity of the untouched model, and the test questions."""

    task: str
    batches: Sequence[dict[str, torch.Tensor]]
    known: Sensitivity
    questions: int


@dataclass(frozen=True)
class Found:
    """One arm's answers; ``bits`` None: the model as it came."""

    task: str
    bits: int | None
    arm: str
    answers: Sequence[Prediction]


def ground(task: str, given: argparse.Namespace) -> Ground:
    """Everything that is taken from the training side."""
    recipe = Recipe.parse({
        "model": MODEL, "task": {"dataset": task}, "steps": ["rtn"],
        "calibrate": {"split": "train", "num_samples": given.samples},
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        context = Context(recipe, task, Folder(Path(folder)), Journal(Path(folder)), loaded=open_source(MODEL))
        known = sensitivity.measure(context.loaded.anatomy, sensitivity.taught(context))
        return Ground(task, calibration.batches(context), known, given.questions)


def measured(on: Ground, bits: int | None, arm: str) -> Found:
    """The untouched model's decoder quantized as the arm says, asked once."""
    loaded = open_source(MODEL)
    if bits is not None:
        name, how = ARMS[arm]
        method, anatomy = methods.make(name, {"bits": bits, "group_size": GROUP}), loaded.anatomy
        walk(anatomy, on.batches, method, ["language"], sensitivity=on.known,
             make=maker(anatomy, method, how, on.known))  # fmt: skip
    loaded.lower()
    asked = arranged(samples(Task.parse({"dataset": on.task}), "test", on.questions, 0), BATCH)
    answers = list(predict(loaded.model, loaded.processor, asked, batch_size=BATCH))
    print(f"{on.task}, {bits or 16} bits, {arm}: {fmean(one.score for one in answers):.3f}", flush=True)
    return Found(on.task, bits, arm, answers)


def against(found: Found, other: Found) -> dict[str, float]:
    """By how much ``found`` is better, in points, with its two-sided 95 % interval."""
    lost = drop(other.answers, found.answers, TWO_SIDED)
    return {"points": 0.0 - 100 * lost.value, "low": 0.0 - 100 * lost.high, "high": 0.0 - 100 * lost.low}


def row(found: Found, every: Sequence[Found]) -> dict[str, Any]:
    """An arm with its differences from the untouched model and from plain GPTQ at the same bits."""
    whole = next(one for one in every if one.task == found.task and one.bits is None)
    plain = [one for one in every if (one.task, one.bits, one.arm) == (found.task, found.bits, PLAIN)]
    return {"task": found.task, "bits": found.bits, "arm": found.arm,
            "right": 100 * fmean(one.score for one in found.answers),
            "against_whole": None if found is whole else against(found, whole),
            "against_plain": against(found, plain[0]) if plain and found is not plain[0] else None}  # fmt: skip


def shown(difference: dict[str, float] | None) -> str:
    return "" if difference is None else "{points:+.1f} ({low:+.1f} to {high:+.1f})".format(**difference)


def plan(given: argparse.Namespace) -> list[str]:
    """The head of the kept file, and the primary comparison."""
    machine, (task, bits, arm, other) = facts(), PRIMARY
    return [
        "# Measured: what image tokens count in calibration", "",
        f"Written by `make bench-modality` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads, torch {torch.__version__}: {MODEL}, the decoder's linears on grids of {GROUP}, tower and projector "
        f"untouched, {given.samples} training samples of each task for calibration and sensitivity, "
        f"{given.questions:,} test questions, each arm asked once, differences in points with two-sided 95 % intervals "
        "by pairs.", "",
        f"Primary comparison, fixed before the test side was read: {arm} against {other} at {bits} bits on {task}.", "",
    ]  # fmt: skip


def page(rows: Sequence[dict[str, Any]], primary: dict[str, float] | None, grounds: Sequence[Ground],
         given: argparse.Namespace) -> str:  # fmt: skip
    """The kept file."""
    word = "not asked for"
    if primary is not None:
        word = "better" if primary["low"] > 0 else "worse" if primary["high"] < 0 else "no difference is shown"
        word = f"{shown(primary)}: {word}"
    head = ["task", "bits", "arm", "right", "against 16 bits", f"against {PLAIN}"]
    table = [[one["task"], str(one["bits"] or 16), one["arm"], f"{one['right']:.1f} %", shown(one["against_whole"]),
              shown(one["against_plain"])] for one in rows]  # fmt: skip
    lines = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *table)]
    ratios = [f"- {one.task}: " + ", ".join(f"{one.known.ratio(path):.3f}" for path in one.known.blocks)
              for one in grounds]  # fmt: skip
    said = "What an image token counted beside one of text (r), block by block:"
    return "\n".join([*plan(given), f"Its result: {word}.", "", *lines, "", said, "", *ratios, ""])


def main() -> None:
    """The training side of each task first, then the file with what will be compared, then the arms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--bits", type=int, nargs="+", default=BITS)
    parser.add_argument("--only", nargs="+", default=[""], help="arms whose name has one of these")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    grounds = [ground(task, given) for task in given.tasks]
    given.out.write_text("\n".join(plan(given)), encoding="utf-8")
    arms = [arm for arm in ARMS if any(text in arm for text in given.only)]
    every = []
    for on in grounds:
        every.append(measured(on, None, "as it came"))
        every += [measured(on, bits, arm) for bits in given.bits for arm in arms]
    task, bits, arm, other = PRIMARY
    pair = [next((one for one in every if (one.task, one.bits, one.arm) == (task, bits, name)), None)
            for name in (arm, other)]  # fmt: skip
    primary = against(pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None
    rows = [row(one, every) for one in every]
    given.out.write_text(page(rows, primary, grounds, given), encoding="utf-8")
    print(json.dumps({"questions": given.questions, "samples": given.samples, "primary": primary, "rows": rows}))


if __name__ == "__main__":
    main()
