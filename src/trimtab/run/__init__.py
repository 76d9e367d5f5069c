"""Runs: recipe, journal, steps, verdict. The package is callable: ``trimtab.run(recipe)``.

``trimtab.run`` has to be both the function that users call and the package that holds it, since importing any of its
modules binds the package to that name; hence a module that can be called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.run.recipe import Recipe
    from trimtab.run.result import Result


class _Run(ModuleType):
    def __call__(self, recipe: str | Path | dict[str, Any] | Recipe, out: str | Path | None = None) -> Result:
        """Do what ``recipe`` says: a ready recipe's name, a YAML file, plain data or a Recipe.

        ``out`` is the run's folder, ``runs/<recipe>-<time>`` by default; it must be new or empty. Raises
        ``trimtab.core.errors.TrimtabError`` on input that cannot be used; a missed budget is no error but the result's
        ``verdict``.
        """
        from trimtab.run.start import run

        return run(recipe, out)


sys.modules[__name__].__class__ = _Run
