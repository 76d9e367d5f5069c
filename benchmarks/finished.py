"""Finished rows of a long benchmark, kept in one file by what they depend on, so that it goes on where it was stopped.

A row stands under the hash of everything that it depends on: rows of other settings, of another tree or of another
peer's version stay in the file and are not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trimtab.core.files import write_atomic


def digest(*parts: Any) -> str:
    """16 digits of the SHA-256 of the parts as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def digest_of_files(paths: Sequence[Path]) -> str:
    """Of their names and contents, in the order of their paths."""
    return digest([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(paths)])


class Finished:
    """``get`` and ``put`` by key; every ``put`` is on disk, whole, when it returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def get(self, key: str) -> Any:
        """What was put there; None where nothing was."""
        return self._rows.get(key)

    def put(self, key: str, row: Any) -> Any:
        """Keep ``row`` and hand it back."""
        self._rows[key] = row
        write_atomic(self.path, json.dumps(self._rows))
        return row
