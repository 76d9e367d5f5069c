"""What Trimtab writes outside run folders, in one place that can be listed and removed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trimtab.core.errors import unknown
from trimtab.core.files import sync_folder

KINDS = ("gguf", "baseline", "engines", "ceilings")
"""What is kept: converted GGUF files, answers of untouched models, which engine is the fastest, what this
machine reaches."""


@dataclass(frozen=True)
class Cached:
    """A file or folder of the cache; ``name`` is ``<kind>/<key>``."""

    name: str
    path: Path
    bytes: int


def root(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """``TRIMTAB_CACHE``, or ``trimtab`` in the folder that the platform has for caches. It need not exist."""
    if environment.get("TRIMTAB_CACHE"):
        return Path(environment["TRIMTAB_CACHE"])
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "trimtab" / "Cache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "trimtab"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimtab"


def place(kind: str, key: str) -> Path:
    """Where an entry lies; its parent is made, readable by the user only. Raises ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"cache: got the kind {kind!r}; accepted: {', '.join(KINDS)}")
    path = root() / kind / key
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def entries() -> list[Cached]:
    """Everything that Trimtab has in the cache, half-written folders of killed processes included. What else lies in
    the folder that ``TRIMTAB_CACHE`` names is the user's, and neither listed nor removed."""
    if not root().is_dir():
        return []
    return [Cached(f"{kind.name}/{path.name}", path, size(path))
            for kind in sorted(root().iterdir()) if kind.is_dir() and kind.name in KINDS
            for path in sorted(kind.iterdir())]  # fmt: skip


def remove(name: str | None = None) -> list[Cached]:
    """Remove one entry, or all with None; returns what is gone. Raises BadInput for a name that is not there."""
    found = entries()
    chosen = [entry for entry in found if name in (None, entry.name)]
    if name is not None and not chosen:
        raise unknown("cache", name, [entry.name for entry in found])
    for entry in chosen:
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
    return chosen


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty sibling of ``path`` to write into; on success it is synced and takes the place of ``path`` as a whole.

    What was at ``path`` before is removed only then. On failure nothing is left behind.
    """
    temporary, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old.part")
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=not leftover.exists())
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
            else:
                sync_folder(file)
        sync_folder(temporary)
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=not old.exists())
    finally:
        shutil.rmtree(temporary, ignore_errors=not temporary.exists())
