"""Methods that leave weights out. ``METHODS`` says where each is; nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.prune.magnitude import Magnitude
    from trimtab.prune.wanda import Wanda

__all__ = ["METHODS", "Magnitude", "Wanda"]

METHODS = {
    "magnitude": "trimtab.prune.magnitude:Magnitude",
    "wanda": "trimtab.prune.wanda:Wanda",
}


def __getattr__(name: str) -> Any:
    for place in METHODS.values():
        module, _, found = place.partition(":")
        if found == name:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
