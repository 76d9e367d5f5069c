"""What every stage of a run works with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trimtab.core.files import write_atomic
from trimtab.core.reading import Reading
from trimtab.run.arms import Weigh
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal, whole_lines
from trimtab.run.recipe import Recipe

Progress = Callable[[str, int, int], None]  # (what, done, of how many)


def silent(what: str, done: int, total: int) -> None:
    """No progress shown."""


@dataclass
class Context:
    """A run under way. ``loaded`` is the model as it is now, with the policies that token steps added; ``reused`` names
    the evaluations that an earlier run has made. ``arm``: how tokens are weighed, where that is not the recipe's
    own way but another one of an ablation."""

    recipe: Recipe
    name: str
    folder: Folder
    journal: Journal
    progress: Progress = silent
    loaded: Any = None
    reused: list[str] = field(default_factory=list)
    arm: Weigh | None = None
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("trimtab.run"))

    def read(self, when: str, readings: Sequence[Reading]) -> None:
        """Add figures to ``readings.jsonl``; a figure that is there already (a resumed stage) is replaced."""
        new = [{"when": when, **asdict(one)} for one in readings]
        fresh = {(row["when"], row["name"]) for row in new}
        kept = [row for row in whole_lines(self.folder.readings) if (row["when"], row["name"]) not in fresh]
        lines = [json.dumps(row, allow_nan=False) for row in kept + new]
        write_atomic(self.folder.readings, "\n".join(lines) + "\n")

    def figure(self, when: str, name: str) -> dict[str, Any] | None:
        """A figure that was taken, as a row of ``readings.jsonl``."""
        rows = whole_lines(self.folder.readings)
        return next((row for row in rows if (row["when"], row["name"]) == (when, name)), None)
