"""The folder of a search: what was asked for, the state it goes on from, and that one process at a time has it.

``search.resolved.yaml`` says what is searched, ``search.json`` what was found, ``recipes/`` has each point that nothing
beats. ``state/`` is private to the user (mode 0700): Optuna's journal, answers, and how many seconds were spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from pydantic import Field, ValidationError

from trimtab.core.errors import BadInput
from trimtab.core.files import write_atomic
from trimtab.run.folder import Folder
from trimtab.run.looked import Strict
from trimtab.run.recipe import Recipe

RESOLVED, FOUND = "search.resolved.yaml", "search.json"


class Wanted(Strict):
    """What is searched. ``space``: the choices of the knobs that were named, of the others those of the model;
    ``questions`` in all folds. The minutes are no part of it: they may be raised."""

    name: str
    seed: int = 0
    sampler: Literal["tpe", "random"] = "tpe"
    questions: int
    space: dict[str, list[Any]] = Field(default_factory=dict)
    recipe: Recipe

    def dump(self) -> str:
        """YAML that ``stored`` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)


def stored(root: Path) -> Wanted | None:
    """What the search in a folder is about, None where there is none. Raises BadInput where that cannot be read."""
    path = root / RESOLVED
    if not path.is_file():
        return None
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe = Recipe.parse(plain.pop("recipe"))
        return Wanted.model_validate(plain | {"recipe": recipe})
    except (yaml.YAMLError, ValidationError, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: {error}; restore the file or start anew") from error


def begin(root: Path, wanted: Wanted) -> None:
    """Make the folder of a new search. Raises BadInput where it is in use, or holds another search."""
    old = stored(root)
    if old is not None and old != wanted:
        fields = [key for key in Wanted.model_fields if getattr(old, key) != getattr(wanted, key)]
        raise BadInput(f"--out: {root} holds another search (it differs in {', '.join(fields)}); go on with it by: "
                       f"trimtab search --out {root}, or name a new folder")  # fmt: skip
    if old is None:
        leftover = {"state", f".{RESOLVED}.part"}  # of a search that was killed before it was written down
        if root.exists() and any(path.name not in leftover for path in root.iterdir()):
            raise BadInput(f"--out: {root} is not empty; name a new folder")
        root.mkdir(parents=True, exist_ok=True)
        Folder(root).private()
        write_atomic(root / RESOLVED, wanted.dump())


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Within, no other process searches in this folder. Raises BadInput where one does."""
    path, mine = state / "process", psutil.Process()
    there = path.read_text().split() if path.is_file() else []
    if len(there) == 2 and _alive(int(there[0]), float(there[1])) and int(there[0]) != mine.pid:
        raise BadInput(f"--out: process {there[0]} searches in {state.parent}; wait for it, or stop it")
    write_atomic(path, f"{mine.pid} {mine.create_time()}")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _alive(pid: int, created: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - created) < 1
    except psutil.NoSuchProcess:
        return False
