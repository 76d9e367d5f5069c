"""Methods that leave weights out. ``METHODS`` says where each is; nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.prune.magnitude import Magnitude
    from trimtab.prune.sparsegpt import SparseGPT
    from trimtab.prune.wanda import Wanda

__all__ = ["METHODS", "Magnitude", "SparseGPT", "Wanda"]

METHODS = {
    "magnitude": "trimtab.prune.magnitude:Magnitude",
    "wanda": "trimtab.prune.wanda:Wanda",
    "sparsegpt": "trimtab.prune.sparsegpt:SparseGPT",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS, name)
