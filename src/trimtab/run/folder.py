"""The files of a run and who may read them."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from trimtab.core.errors import BadInput


@dataclass(frozen=True)
class Folder:
    """Paths inside a run's folder. ``state`` and ``predictions`` are private to the user (mode 0700)."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.resolved.yaml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.jsonl"

    @property
    def readings(self) -> Path:
        return self.root / "readings.jsonl"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def log(self) -> Path:
        return self.root / "run.log"

    @property
    def artifact(self) -> Path:
        return self.root / "artifact"

    def create(self) -> None:
        """Make the folder. Raises BadInput where it is already in use, and says how to go on with it."""
        if (self.root / "journal.jsonl").exists():
            raise BadInput(f"--out: {self.root} holds a run; go on with: trimtab resume {self.root}")
        leftover = {"state", f".{self.recipe.name}.part"}  # of a run killed before its recipe was written
        if self.root.exists() and any(path.name not in leftover for path in self.root.iterdir()):
            raise BadInput(f"--out: {self.root} is not empty; name a new folder")
        self.root.mkdir(parents=True, exist_ok=True)
        self.private()

    def private(self) -> None:
        """Make the state folder, readable by its owner only."""
        self.state.mkdir(mode=0o700, exist_ok=True)
        os.chmod(self.state, 0o700)

    def forget(self) -> None:
        """Remove calibration state and per-layer checkpoints: what a finished run no longer needs."""
        shutil.rmtree(self.state, ignore_errors=False)


def default(name: str) -> Path:
    """``runs/<recipe>-<time>``, which does not exist yet."""
    base = Path("runs") / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    found, number = base, 1
    while found.exists():
        number += 1
        found = base.with_name(f"{base.name}-{number}")
    return found


def check_space(folder: Path, needed: int) -> None:
    """Raises BadInput where the disk has less than ``needed`` bytes left, before anything is half-written."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(f"disk: {folder} has {free / 1e6:.0f} MB free, this run needs about {needed / 1e6:.0f} MB")
