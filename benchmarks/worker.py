"""A side of a benchmark that stays: a process in its own environment that answers a line of JSON for each question."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

SIDES = Path(__file__).resolve().parent / "sides"


class Ended(Exception):
    """A side ended before it answered; says what it said last."""


class Worker:
    """``with Worker(...) as one: one.ask({...})``; ``loaded`` is what it told first. Raises Ended."""

    def __init__(
        self, python: Path, side: str, given: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(python), str(SIDES / side), *given]
        self.log, self.environment = log, environment or {}

    def __enter__(self) -> Worker:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(SIDES / "shared"), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | dict(self.environment) | {"PYTHONPATH": path},
            )  # fmt: skip
        try:
            self.loaded = self._line()
        except Ended:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said last is told below
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Ended(f"{self.command[1:]}: {self.log.read_text(encoding='utf-8', errors='replace')[-600:]}")
        found: dict[str, Any] = json.loads(line)
        return found
