"""Smaller KV caches: which entries stay for later tokens, and in what form. Nothing is imported until it is asked for.

``METHODS`` says where each is: name -> "module:Class".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.cache.kivi import KIVI
    from trimtab.cache.sinks import Sinks
    from trimtab.cache.snapkv import SnapKV

__all__ = ["KIVI", "METHODS", "Sinks", "SnapKV"]

METHODS = {
    "kivi": "trimtab.cache.kivi:KIVI",
    "sinks": "trimtab.cache.sinks:Sinks",
    "snapkv": "trimtab.cache.snapkv:SnapKV",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS, name)
