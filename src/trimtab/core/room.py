"""A family's package hands out its methods by name, each module imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def fetch(room: str, table: Mapping[str, str], name: str) -> Any:
    """The class ``name`` of a table "module:Class". Raises AttributeError, with what there is, for any other."""
    for place in table.values():
        module, _, found = place.partition(":")
        if found == name:
            return getattr(import_module(module), name)
    known = ", ".join(sorted(place.partition(":")[2] for place in table.values()))
    raise AttributeError(f"module {room!r} has no attribute {name!r}; it has {known}")
