"""Methods that put weights on a grid. ``METHODS`` says where each is; nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.quantize.awq import AWQ
    from trimtab.quantize.gptq import GPTQ
    from trimtab.quantize.mixed import Mixed
    from trimtab.quantize.rtn import RTN
    from trimtab.quantize.smoothquant import SmoothQuant
    from trimtab.quantize.w8a8 import W8A8

__all__ = ["AWQ", "GPTQ", "METHODS", "RTN", "W8A8", "Mixed", "SmoothQuant"]

METHODS = {
    "rtn": "trimtab.quantize.rtn:RTN",
    "gptq": "trimtab.quantize.gptq:GPTQ",
    "awq": "trimtab.quantize.awq:AWQ",
    "w8a8": "trimtab.quantize.w8a8:W8A8",
    "smoothquant": "trimtab.quantize.smoothquant:SmoothQuant",
    "mixed": "trimtab.quantize.mixed:Mixed",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS, name)
