"""``trimtab init``: a recipe for a user's own model and data, with the reason for each guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from trimtab.anatomy import Anatomy
from trimtab.anatomy.base import Part
from trimtab.core.errors import BadInput
from trimtab.core.files import write_atomic
from trimtab.data import text as texts
from trimtab.data.builtin import BUILTIN
from trimtab.data.inspect import inspect
from trimtab.data.tables import PICTURES
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.load.blank import blank
from trimtab.run import tiers
from trimtab.run.recipe import Recipe

PROSE = (".txt", ".md")


def write(model: str, data: Path | None, out: Path, level: str = tiers.DEFAULT) -> tuple[Path, list[str]]:
    """Write a recipe for ``model`` and ``data`` (None: a built-in data set) to ``out``, with the steps of a tier.
    Returns its path and the reasons for what was guessed.

    Raises BadInput where the model or the data cannot be read, they do not go together, or ``out`` exists.
    """
    chosen = tiers.tier(level)
    if out.exists():
        raise BadInput(f"--out: {out} exists; name another file")
    anatomy = blank(model)
    made, sees = steps(anatomy, level), _sees(anatomy)
    task, reasons = _builtin(sees) if data is None else guessed(data)
    value, more = _text(task) if task.type == "text" else _questions(task)
    value["budget"]["weights"] = {"max": chosen.weights}
    if task.type != "text" and not sees:
        raise BadInput(f"--data: these are pictures or questions, and {model} takes no pictures; accepted: a text file")
    plain = task.model_dump(exclude_defaults=True) | {"type": task.type}
    recipe = Recipe.parse({"model": model, "task": plain, **value, "steps": made})
    said = f"tier {level}: {chosen.reason}"
    size = [knobs["group_size"] for step in made for knobs in step.values() if "group_size" in knobs][-1]
    why = "a whole row: no usual group divides" if size < 0 else "the least group" if level == "fast" else "it divides"
    reasons += [more, said, f"group_size: {size} ({why}{'' if level == 'fast' else ' every row of the model'})"]
    head = f"# Written by trimtab init; every key is explained in docs/runs.md\n# {said}\n"
    write_atomic(out, head + recipe.dump())
    return out, reasons


def steps(anatomy: Anatomy, level: str = tiers.DEFAULT) -> list[dict[str, Any]]:
    """The steps of tier ``level`` for all parts that the model has; and half of the image tokens, where there are any.
    Raises BadInput for a model that does not generate.
    """
    kind = anatomy.model.config.model_type
    if not anatomy.decodes:
        raise BadInput(f"--model: {kind!r} does not generate text in the loop; a run measures answers")
    hosts = dict(anatomy.embeddings()) | dict(anatomy.linears())
    parts = {anatomy.part_of(name) for name in hosts}
    targets, widths = [part for part in get_args(Part) if part in parts], [host.w.shape[1] for host in hosts.values()]
    found = tiers.tier(level).steps(targets, widths)
    return [*found, {"divprune": {"keep": 0.5}}] if _sees(anatomy) else found


def _sees(anatomy: Anatomy) -> bool:
    return any(anatomy.part_of(name) == "projector" for name, _ in anatomy.linears())


def _builtin(sees: bool) -> tuple[Task, list[str]]:
    """A built-in data set that the model can be measured on."""
    name = "easyvqa" if sees else "text"
    task = Task.parse({"type": BUILTIN[name].type, "dataset": name})
    return task, [f"dataset: {name}, built in ({BUILTIN[name].title}); --data measures on your own"]


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
