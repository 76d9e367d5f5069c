"""The append-only journal of a run: which stages ended, and with what. A run resumes from it.

One JSON object a line, synced before the next stage begins. A line that a kill tore in half is dropped at the next
opening; everything before it stands.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput
from trimtab.core.files import write_atomic

Result = dict[str, Any]


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines; a torn last line is cut off, so that appending goes on cleanly.

    Raises BadInput where a line other than the last is no JSON.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        write_atomic(path, data[:end])
    rows = []
    for number, line in enumerate(data[:end].splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise BadInput(f"{path.name} line {number}: not JSON ({error}); restore the file or start anew") from error
    return rows


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a file of lines and sync it."""
    with path.open("ab") as file:
        file.write(b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


class Journal:
    """The stages of a run that ended, by key."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"
        self.ended: dict[str, Result] = {row["stage"]: row for row in whole_lines(self.path)}

    def stage(self, key: str, work: Callable[[], Result]) -> Result:
        """What ``work`` gave: from the journal if the stage has ended before, else by doing it now.

        ``seconds`` counts this process's share; a stage that was killed and resumed says so in ``resumed``.
        """
        if key in self.ended:
            return dict(self.ended[key]["result"])
        begun = time.monotonic()
        result = work()
        row = {"stage": key, "seconds": round(time.monotonic() - begun, 3), "at": round(time.time()), "result": result}
        append(self.path, [row])
        self.ended[key] = json.loads(json.dumps(row))
        return dict(self.ended[key]["result"])

    def seconds(self) -> dict[str, float]:
        """How long each ended stage took, in order."""
        return {key: row["seconds"] for key, row in self.ended.items()}
