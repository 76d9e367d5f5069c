"""``trimtab init``: a recipe for a user's own data, with the reason for each guess."""

from __future__ import annotations

from pathlib import Path

from trimtab.core.errors import BadInput
from trimtab.core.files import write_atomic
from trimtab.data.inspect import inspect
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.run.recipe import Recipe

STEPS = [
    {"gptq": {"bits": 4, "group_size": 64, "targets": ["language", "projector", "vision", "embedding", "head"]}},
    {"divprune": {"keep": 0.5}},
]


def write(model: str, data: Path, out: Path) -> tuple[Path, list[str]]:
    """Write a recipe for ``data`` to ``out``. Returns its path and the reasons for what was guessed.

    Raises BadInput where the data cannot be read or ``out`` exists.
    """
    if out.exists():
        raise BadInput(f"--out: {out} exists; name another file")
    guess = inspect(data)
    plain = {"type": guess.type, "data": str(data), "columns": guess.columns}
    if guess.image_root is not None:
        plain["image_root"] = guess.image_root
    if data.is_dir():
        plain["prompt"] = "what is in the image?"
    task = Task.parse(plain)
    train, test = (len(samples(task, part)) for part in ("train", "test"))
    value = {
        "model": model,
        "task": task.model_dump(exclude_defaults=True) | {"type": task.type},
        "calibrate": {"num_samples": min(128, train)},
        "steps": STEPS,
        "budget": {"accuracy": {"max_drop": "1pt"}, "weights": {"max": "0.4x"}},
        "evaluate": {"limit": min(2000, test), "after_step": min(500, test), "missing_image": min(300, test)},
    }
    recipe = Recipe.parse(value)
    reasons = [f"{meaning}: {guess.columns[meaning]!r} ({why})" for meaning, why in guess.why.items()]
    reasons.append(f"{guess.rows} rows: {train} may calibrate, {test} are for the test")
    write_atomic(out, "# Written by trimtab init; every key is explained in docs/runs.md\n" + recipe.dump())
    return out, reasons
