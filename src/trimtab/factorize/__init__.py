"""Methods that stand products of thin matrices beside or in place of weights. Nothing is imported before it is asked
for.

``METHODS`` are the published methods, ``CONTROLS`` what they must beat; both are name -> "module:Class".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.factorize.eora import EoRA
    from trimtab.factorize.svd import SVD

__all__ = ["CONTROLS", "METHODS", "SVD", "EoRA"]

METHODS = {"eora": "trimtab.factorize.eora:EoRA"}
CONTROLS = {"svd": "trimtab.factorize.svd:SVD"}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS | CONTROLS, name)
