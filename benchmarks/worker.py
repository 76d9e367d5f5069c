"""A side of a benchmark that stays: a process in its own environment that answers a line of JSON for each question."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from trimtab.engines.process import Ended, Process

SIDES = Path(__file__).resolve().parent / "sides"
__all__ = ["SIDES", "Ended", "Worker"]


class Worker(Process):
    """``with Worker(...) as one: one.ask({...})``; ``loaded`` is what it told first. Raises Ended."""

    def __init__(
        self, python: Path, side: str, given: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        path = os.pathsep.join([str(SIDES / "shared"), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [str(python), "-P", str(SIDES / side), *given]  # a side may have a library's name
        super().__init__(command, log, {**(environment or {}), "PYTHONPATH": path})
