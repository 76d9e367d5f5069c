"""What a run is asked to do: one pydantic object behind the YAML file, the Python call and the command line's flags.

Unknown keys are refused with the nearest valid one; steps are checked against the methods' own knobs. ``Recipe`` round-
trips through YAML: ``Recipe.read(recipe.dump()) == recipe``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_serializer, model_validator

from trimtab import methods
from trimtab.core.errors import BadInput, nearest, unknown
from trimtab.data.builtin import BUILTIN
from trimtab.data.task import SPLITS, Task
from trimtab.run import arms
from trimtab.run.amounts import Amount, amount
from trimtab.run.looked import Calibrate, Evaluate, Measure, Robust, Strict

MEASURED = ("vqa", "classify", "text")
"""Types of tasks that a run can measure."""

# What other tools and older habits call things -> what a recipe calls them.
FOREIGN = {
    "model_name_or_path": "model", "model_id": "model", "base_model": "model", "pretrained": "model",
    "calibration": "calibrate", "calib": "calibrate", "nsamples": "num_samples", "n_samples": "num_samples",
    "num_calibration_samples": "num_samples", "seqlen": "max_seq_length", "max_length": "max_seq_length",
    "modifiers": "steps", "stages": "steps", "methods": "steps", "compress": "steps", "budgets": "budget",
    "constraints": "budget", "eval": "evaluate", "torch_dtype": "dtype", "num_threads": "threads",
    "random_seed": "seed", "data": "task", "missing_image": "robust.missing_image", "robustness": "robust",
    "corruptions": "robust.corruptions", "severities": "robust.severities", "severity": "severities",
    "gaussian_noise": "noise", "gaussian_blur": "blur", "jpeg_compression": "jpeg", "cutout": "occlusion",
    "random_erasing": "occlusion", "weighting": "weigh", "reweight": "weigh", "modality": "weigh", "balance": "weigh",
}  # fmt: skip


class Step(Strict):
    """One method with its knobs; in YAML ``- gptq: {bits: 4, targets: [language]}``."""

    method: str
    knobs: dict[str, Any] = Field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {value: {}}
        if not isinstance(value, dict) or "method" in value:
            return value
        if len(value) != 1:
            raise ValueError(f"a step names one method, as in '- gptq: {{bits: 4}}'; got {sorted(value)}")
        ((method, given),) = value.items()
        given = {"path": given} if isinstance(given, str) else dict(given or {})
        where = {key: _listed(given.pop(key)) for key in ("targets", "ignore") if key in given}
        return {"method": method, "knobs": given, **where}

    @model_serializer
    def _long(self) -> dict[str, Any]:
        where = {"targets": list(self.targets)} if self.targets is not None else {}
        where |= {"ignore": list(self.ignore)} if self.ignore else {}
        return {self.method: self.knobs | where}


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Budget(Strict):
    """What the trimmed model must keep to, by axis. Amounts are kept as they were written."""

    accuracy: dict[Literal["max_drop"], str] | None = None
    perplexity: dict[Literal["max"], str] | None = None
    weights: dict[Literal["max"], str] | None = None
    prefill: dict[Literal["max"], str] | None = None
    decode: dict[Literal["max"], str] | None = None
    memory: dict[Literal["max"], str] | None = None
    cache: dict[Literal["max"], str] | None = None

    def amounts(self) -> dict[str, Amount]:
        """The axes that have a budget. Raises BadInput on an amount that cannot be read."""
        units = {
            "accuracy": ("pt", "%"), "perplexity": ("x",), "weights": ("x", "mb", "gb", "kb", "b"),
            "prefill": ("x", "ms", "s"), "decode": ("x", "ms", "s"), "memory": ("x", "mb", "gb"),
            "cache": ("x", "mb", "gb", "kb", "b"),
        }  # fmt: skip
        found = {}
        for axis, accepted in units.items():
            for name, text in (getattr(self, axis) or {}).items():
                found[axis] = amount(text, f"budget.{axis}.{name}", accepted)
        return found


class Recipe(Strict):
    """A run, from model to budget."""

    model: str
    task: Task
    also: tuple[Task, ...] = ()
    calibrate: Calibrate = Calibrate()
    steps: tuple[Step, ...] = Field(min_length=1)
    budget: Budget = Budget()
    evaluate: Evaluate = Evaluate()
    measure: Measure = Measure()
    seed: int = 0
    dtype: Literal["bfloat16", "float32"] | None = None
    threads: int | None = Field(default=None, ge=1)
    revision: str | None = None
    trust_remote_code: bool = False
    stream: bool | None = None

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Recipe:
        """From plain data, as YAML gives it. Raises BadInput that names the key, what it was and what it takes."""
        if not isinstance(value, dict):
            raise BadInput(f"recipe: got {type(value).__name__}; accepted: a mapping with 'model', 'task', 'steps'")
        try:
            recipe = cls.model_validate(value)
        except ValidationError as error:
            raise BadInput("\n".join(_explain(row) for row in error.errors())) from error
        coherent(recipe)
        for step in recipe.steps:
            methods.step(step.method, step.knobs)
        given = recipe.calibrate
        source = BUILTIN[given.dataset].type if given.dataset in BUILTIN else recipe.task.type
        arms.check(given.weigh, given.ablation, [step.method for step in recipe.steps], source == "text",
                   recipe.evaluate.after_step)  # fmt: skip
        return recipe

    @classmethod
    def read(cls, text: str, name: str = "recipe") -> Recipe:
        """From YAML. Raises BadInput with the line where the text is no YAML."""
        try:
            return cls.parse(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise BadInput(f"{name}: not YAML: {error}") from error

    def dump(self) -> str:
        """YAML that reads back as the same recipe."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)


def _explain(row: Any) -> str:
    path = [str(part) for part in row["loc"]]
    key, given = ".".join(path), row.get("input")
    if row["type"] == "extra_forbidden":
        owner = _owner(path[:-1])
        options = list(owner.model_fields) if owner else []
        other = FOREIGN.get(path[-1])
        known = other is not None and other.partition(".")[0] in options
        hint = f" (here it is called {other!r})" if known else nearest(path[-1], options)
        return f"{key}: unknown key{hint}; accepted: {', '.join(options)}"
    if row["type"] == "missing":
        return f"{key}: missing; every recipe needs it"
    shown = given if isinstance(given, str | int | float | bool | None) else type(given).__name__
    return f"{key}: got {shown!r}; {row['msg'].removeprefix('Value error, ')}"


def _owner(path: list[str]) -> type[BaseModel] | None:
    """The model class that a path of keys leads to."""
    here: type[BaseModel] = Recipe
    parts: dict[str, type[BaseModel]] = {
        "calibrate": Calibrate, "budget": Budget, "evaluate": Evaluate, "robust": Robust, "measure": Measure,
        "task": Task, "also": Task, "steps": Step,
    }  # fmt: skip
    for part in path:
        here = parts.get(part, here)
    return here


def override(value: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Apply ``--set key.path=value`` to plain recipe data; values are read as YAML. Raises BadInput without a '='."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise BadInput(f"--set: got {setting!r}; accepted: key=value, as in calibrate.num_samples=64")
        *parents, last = path.split(".")
        here: Any = value
        for part in parents:
            here = here[_index(here, part, setting)] if isinstance(here, list) else here.setdefault(part, {})
            if not isinstance(here, dict | list):
                raise BadInput(f"--set: {setting!r}: {part!r} holds a value, not keys")
        here[_index(here, last, setting) if isinstance(here, list) else last] = yaml.safe_load(text)
    return value


def _index(here: list[Any], part: str, setting: str) -> int:
    if not part.isdigit() or int(part) >= len(here):
        raise BadInput(f"--set: {setting!r}: got {part!r}; accepted: an index below {len(here)}")
    return int(part)


def find(name: str, ready: dict[str, Path]) -> Path:
    """A recipe by file or by the name of a ready one. Raises BadInput with the nearest name."""
    if Path(name).suffix in (".yaml", ".yml") or Path(name).exists():
        if not Path(name).is_file():
            raise BadInput(f"recipe: no file {name!r}")
        return Path(name)
    if name not in ready:
        raise unknown("recipe", name, ready)
    return ready[name]


def coherent(recipe: Recipe) -> None:
    """What no key can know alone. Raises BadInput that names the keys which contradict each other."""
    budget, main = recipe.budget.amounts(), recipe.task
    for index, task in enumerate((main, *recipe.also)):
        where = "task" if index == 0 else f"also.{index - 1}"
        if task.type not in MEASURED:
            raise BadInput(f"{where}.type: {task.type!r} is not measured yet; accepted in a run: {', '.join(MEASURED)}")
        if any(task.name == other.name for other in (main, *recipe.also)[:index]):
            raise BadInput(f"{where}: its figures would be called {task.name!r} like an earlier task's; give it a name "
                           "of its own with 'figure'")  # fmt: skip
    right, wrong = ("perplexity", "accuracy") if main.type == "text" else ("accuracy", "perplexity")
    if wrong in budget:
        raise BadInput(f"budget.{wrong}: a task of type {main.type!r} is judged by {right}")
    if recipe.evaluate.until is not None and "accuracy" not in budget:
        raise BadInput("evaluate.until: 'decided' needs what is to be decided; set budget.accuracy.max_drop")
    for name in recipe.evaluate.robust.corruptions:
        _corruption(name)
    given = recipe.calibrate
    own = given.dataset in (None, main.dataset)
    seen = (main.dataset, main.data) if own else (given.dataset, None)
    for index, task in enumerate((main, *recipe.also)):
        if (task.dataset, task.data) == seen and given.split == task.split:
            what, key = (f"also.{index - 1}", f"also.{index - 1}.split") if index else ("the task", "task.split")
            raise BadInput(f"calibrate.split: got {given.split!r}, which {what} is measured on; accepted: another of "
                           f"{', '.join(SPLITS)} (or {key})")  # fmt: skip


def _corruption(name: str) -> None:
    known, other = methods.of("robust"), FOREIGN.get(name)
    if name not in known:
        hint = f" (here it is called {other!r})" if other in known else nearest(name, known)
        raise BadInput(f"evaluate.robust.corruptions: got {name!r}{hint}; accepted: {', '.join(known)}")
