"""Methods that put weights on a grid. ``METHODS`` says where each is; nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.quantize.awq import AWQ
    from trimtab.quantize.finequant import FineQuant
    from trimtab.quantize.fp4 import FP4
    from trimtab.quantize.gptq import GPTQ
    from trimtab.quantize.mbq import MBQ
    from trimtab.quantize.mixed import Mixed
    from trimtab.quantize.mr_gptq import MRGPTQ
    from trimtab.quantize.nf4 import NF4
    from trimtab.quantize.quantease import QuantEase
    from trimtab.quantize.rtn import RTN
    from trimtab.quantize.smoothquant import SmoothQuant
    from trimtab.quantize.w8a8 import W8A8
    from trimtab.quantize.w8a8_static import W8A8Static

__all__ = [
    "AWQ",
    "FP4",
    "GPTQ",
    "MBQ",
    "METHODS",
    "MRGPTQ",
    "NF4",
    "RTN",
    "W8A8",
    "FineQuant",
    "Mixed",
    "QuantEase",
    "SmoothQuant",
    "W8A8Static",
]

METHODS = {
    "rtn": "trimtab.quantize.rtn:RTN",
    "finequant": "trimtab.quantize.finequant:FineQuant",
    "gptq": "trimtab.quantize.gptq:GPTQ",
    "quantease": "trimtab.quantize.quantease:QuantEase",
    "awq": "trimtab.quantize.awq:AWQ",
    "mbq": "trimtab.quantize.mbq:MBQ",
    "nf4": "trimtab.quantize.nf4:NF4",
    "fp4": "trimtab.quantize.fp4:FP4",
    "mr_gptq": "trimtab.quantize.mr_gptq:MRGPTQ",
    "w8a8": "trimtab.quantize.w8a8:W8A8",
    "w8a8_static": "trimtab.quantize.w8a8_static:W8A8Static",
    "smoothquant": "trimtab.quantize.smoothquant:SmoothQuant",
    "mixed": "trimtab.quantize.mixed:Mixed",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS, name)
