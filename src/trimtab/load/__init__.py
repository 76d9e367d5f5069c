"""Models in and out: sources of every kind, and the artifact that cannot load silently wrong.

The package is callable: ``trimtab.load(name)`` is ``trimtab.load.sources.open_source(name)``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.load.loaded import Loaded, Source
    from trimtab.load.sources import open_source

__all__ = ["Loaded", "Source", "open_source"]


class _Load(ModuleType):
    def __call__(self, name: str, **options: Any) -> Loaded:
        """A model by name: ``builtin:NAME``, a hub id, a folder, a ``.gguf`` file or an artifact of Trimtab."""
        from trimtab.load.sources import open_source

        return open_source(name, **options)


def __getattr__(name: str) -> Any:
    if name == "open_source":
        from trimtab.load.sources import open_source

        return open_source
    if name in ("Loaded", "Source"):
        from trimtab.load import loaded

        return getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


sys.modules[__name__].__class__ = _Load
