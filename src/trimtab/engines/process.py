"""A process that stays: it loads once, says so in a line of JSON, and answers a line for each that it is asked."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Ended(Exception):
    """A process ended, or took too long, before it answered; says what it said last."""


class Process:
    """``with Process(...) as one: one.ask({...})``; ``loaded`` is what it told first. ``log``: where its errors go;
    ``limit``: seconds that any answer may take. Raises Ended."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None,
        limit: float | None = None,
    ) -> None:  # fmt: skip
        self.command, self.log, self.environment, self.limit = list(command), log, environment or {}, limit

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0,
                env=os.environ | dict(self.environment),
            )  # fmt: skip
        self.rest = b""
        try:
            self.loaded = self._line()
        except BaseException:
            self._close(0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(20 if kind is None else 0)

    def _close(self, patience: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # what it said last is told below
            self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        end = time.monotonic() + (self.limit or 0)
        while b"\n" not in self.rest:
            if self.limit is not None and not _readable(self.process.stdout, end - time.monotonic()):
                raise Ended(f"no answer within {self.limit:.0f} s")
            part = self.process.stdout.read(1 << 16)
            if not part:
                raise Ended(self.log.read_text(encoding="utf-8", errors="replace")[-600:].strip())
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


def _readable(pipe: Any, seconds: float) -> bool:
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        return seconds > 0 and bool(ready.select(seconds))
