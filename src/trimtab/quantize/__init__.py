"""Methods that put weights on a grid. ``METHODS`` says where each is; nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.quantize.awq import AWQ
    from trimtab.quantize.finequant import FineQuant
    from trimtab.quantize.gptq import GPTQ
    from trimtab.quantize.quantease import QuantEase
    from trimtab.quantize.rtn import RTN

__all__ = ["AWQ", "GPTQ", "METHODS", "RTN", "FineQuant", "QuantEase"]

METHODS = {
    "rtn": "trimtab.quantize.rtn:RTN",
    "gptq": "trimtab.quantize.gptq:GPTQ",
    "awq": "trimtab.quantize.awq:AWQ",
    "finequant": "trimtab.quantize.finequant:FineQuant",
    "quantease": "trimtab.quantize.quantease:QuantEase",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS, name)
