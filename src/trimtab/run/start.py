"""The doors of a run: a new one from a recipe, or the rest of one that was stopped."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml

from trimtab.core.errors import BadInput
from trimtab.core.files import write_atomic
from trimtab.run import engine, machine, rehearsal
from trimtab.run.context import Context, Progress, silent
from trimtab.run.folder import Folder, default
from trimtab.run.journal import Journal
from trimtab.run.recipe import Recipe, find, override
from trimtab.run.result import Result


def ready() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(files("trimtab"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def resolve(recipe: str | Path | dict[str, Any] | Recipe, settings: Sequence[str] = ()) -> tuple[str, Recipe]:
    """A name for the run and its recipe. Raises BadInput where it cannot be read."""
    if isinstance(recipe, Recipe):
        return "recipe", recipe
    if isinstance(recipe, dict):
        return "recipe", Recipe.parse(override(dict(recipe), list(settings)))
    path = find(str(recipe), ready())
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not YAML: {error}") from error
    if not isinstance(plain, dict):
        raise BadInput(f"{path}: got {type(plain).__name__}; a recipe is a mapping with 'model', 'task' and 'steps'")
    return path.stem, Recipe.parse(override(plain, list(settings)))


def run(
    recipe: str | Path | dict[str, Any] | Recipe,
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    progress: Progress = silent,
    name: str | None = None,
) -> Result:
    """Begin a run and take it to its end. Raises TrimtabError on what cannot be used; a missed budget is a verdict."""
    found, resolved = resolve(recipe, settings)
    name = name or found
    folder = Folder(Path(out) if out is not None else default(name))
    folder.create()
    if resolved.threads:
        torch.set_num_threads(resolved.threads)
    write_atomic(folder.recipe, f"# {name}\n{resolved.dump()}")
    return _go(Context(resolved, name, folder, Journal(folder.root), progress))


def resume(out: str | Path, progress: Progress = silent) -> Result:
    """Go on with a stopped run; one that has ended is given back as it is. Raises BadInput where there is none."""
    folder = Folder(Path(out))
    if not folder.recipe.is_file():
        raise BadInput(f"resume: {folder.root} holds no run (no {folder.recipe.name})")
    text = folder.recipe.read_text(encoding="utf-8")
    name = text.partition("\n")[0].removeprefix("# ").strip()
    journal = Journal(folder.root)
    if "end" in journal.ended:
        return Result.open(folder.root)
    folder.private()
    context = Context(Recipe.read(text, folder.recipe.name), name, folder, journal, progress)
    if "begin" in journal.ended:
        machine.same(journal.ended["begin"]["result"]["conditions"])
    elif context.recipe.threads:
        torch.set_num_threads(context.recipe.threads)
    return _go(context)


def rehearse(recipe: Recipe, progress: Progress = silent) -> dict[str, Any]:
    """The recipe in small, in a folder of its own that goes; what it was and its ``seconds``. Raises TrimtabError on
    what would stop the run."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as where:
        folder = Folder(Path(where))
        folder.private()
        found = rehearsal.rehearse(Context(recipe, "rehearsal", folder, Journal(folder.root), progress))
    return found | {"seconds": time.monotonic() - begun}


def _go(context: Context) -> Result:
    with logged(context.folder.log):
        engine.execute(context)
    return Result.open(context.folder.root)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """What is worth a line goes to the file ``path`` while the run lasts."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("trimtab")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        logger.exception("stopped by %s", type(error).__name__)
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
