"""Methods that put weights on a grid. ``METHODS`` says where each is; nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.quantize.gptq import GPTQ
    from trimtab.quantize.rtn import RTN

__all__ = ["GPTQ", "METHODS", "RTN"]

METHODS = {
    "rtn": "trimtab.quantize.rtn:RTN",
    "gptq": "trimtab.quantize.gptq:GPTQ",
}


def __getattr__(name: str) -> Any:
    for place in METHODS.values():
        module, _, found = place.partition(":")
        if found == name:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
