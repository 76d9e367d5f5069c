"""``trimtab init``: a recipe for a user's own model and data, with the reason for each guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from trimtab.anatomy import Anatomy
from trimtab.anatomy.base import Part
from trimtab.core.errors import BadInput
from trimtab.core.files import write_atomic
from trimtab.data import text as texts
from trimtab.data.inspect import inspect
from trimtab.data.tables import PICTURES
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.load.blank import blank
from trimtab.run.recipe import Recipe

GROUPS = (64, 32, 128, 16)  # inputs that share a scale, the best first
PROSE = (".txt", ".md")


def write(model: str, data: Path, out: Path) -> tuple[Path, list[str]]:
    """Write a recipe for ``model`` and ``data`` to ``out``. Returns its path and the reasons for what was guessed.

    Raises BadInput where the model or the data cannot be read, they do not go together, or ``out`` exists.
    """
    if out.exists():
        raise BadInput(f"--out: {out} exists; name another file")
    made = steps(blank(model))
    task, reasons = guessed(data)
    value, more = _text(task) if task.type == "text" else _questions(task)
    if task.type != "text" and len(made) == 1:
        raise BadInput(f"--data: these are pictures or questions, and {model} takes no pictures; accepted: a text file")
    plain = task.model_dump(exclude_defaults=True) | {"type": task.type}
    recipe = Recipe.parse({"model": model, "task": plain, **value, "steps": made})
    group = made[0]["gptq"]["group_size"]
    why = "it divides" if group > 0 else "a whole row: no usual group divides"
    reasons += [more, f"group_size: {group} ({why} every row of the model)"]
    write_atomic(out, "# Written by trimtab init; every key is explained in docs/runs.md\n" + recipe.dump())
    return out, reasons


def steps(anatomy: Anatomy) -> list[dict[str, Any]]:
    """4 bits for all parts that the model has, by the first of ``GROUPS`` that divides every row (a whole row where
    none does); and half of the image tokens, where there are any. Raises BadInput for a model that does not generate.
    """
    kind = anatomy.model.config.model_type
    if not anatomy.decodes:
        raise BadInput(f"--model: {kind!r} does not generate text in the loop; a run measures answers")
    hosts = dict(anatomy.embeddings()) | dict(anatomy.linears())
    parts = {anatomy.part_of(name) for name in hosts}
    size = next((group for group in GROUPS if all(host.w.shape[1] % group == 0 for host in hosts.values())), -1)
    targets = [part for part in get_args(Part) if part in parts]
    found: list[dict[str, Any]] = [{"gptq": {"bits": 4, "group_size": size, "targets": targets}}]
    return [*found, {"divprune": {"keep": 0.5}}] if "projector" in parts else found


def _prose(data: Path) -> bool:
    """Whether this is a text file, or a folder with texts and no pictures."""
    paths = [path for path in data.rglob("*") if path.is_file()] if data.is_dir() else [data]
    kinds = {path.suffix.lower() for path in paths}
    return bool(kinds & set(PROSE)) and not kinds & set(PICTURES)


def guessed(data: Path) -> tuple[Task, list[str]]:
    """What ``data`` seems to ask, and why. Raises BadInput where it cannot be read or guessed."""
    if _prose(data):
        return Task.parse({"type": "text", "data": str(data)}), []
    guess = inspect(data)
    plain: dict[str, Any] = {"type": guess.type, "data": str(data), "columns": guess.columns}
    if guess.image_root is not None:
        plain["image_root"] = guess.image_root
    if data.is_dir():
        plain["prompt"] = "what is in the image?"
    return Task.parse(plain), [f"{meaning}: {guess.columns[meaning]!r} ({why})" for meaning, why in guess.why.items()]


def _text(task: Task) -> tuple[dict[str, Any], str]:
    left = len(texts.text_of(task, "test"))
    value = {"calibrate": {"num_samples": 64}, "budget": {"perplexity": {"max": "1.1x"}, "weights": {"max": "0.4x"}}}
    return value, f"text: the first half calibrates, the last {left:,} characters are measured on"


def _questions(task: Task) -> tuple[dict[str, Any], str]:
    train, test = (len(samples(task, part)) for part in ("train", "test"))
    value = {
        "calibrate": {"num_samples": min(128, train)},
        "budget": {"accuracy": {"max_drop": "1pt"}, "weights": {"max": "0.4x"}},
        "evaluate": {"limit": min(2000, test), "after_step": min(500, test), "robust": {"limit": min(100, test)}},
    }
    return value, f"{train + test} rows: {train} may calibrate, {test} are for the test"
