"""Methods that train a little beside a model. ``METHODS`` says where each is; nothing is imported before it is asked
for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.adapt.load import LoadAdapter
    from trimtab.adapt.lora import LoRA
    from trimtab.adapt.merge import Merge

__all__ = ["METHODS", "LoRA", "LoadAdapter", "Merge"]

METHODS = {
    "load_adapter": "trimtab.adapt.load:LoadAdapter",
    "lora": "trimtab.adapt.lora:LoRA",
    "merge": "trimtab.adapt.merge:Merge",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS, name)
