"""Visual-token reduction: which image tokens the language model gets to see. Nothing is imported until it is asked for.

``METHODS`` are the published methods, ``CONTROLS`` what they must beat; both are name -> "module:Class".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.tokens.divprune import DivPrune
    from trimtab.tokens.fastv import FastV
    from trimtab.tokens.random import RandomTokens
    from trimtab.tokens.tome import ToMe

__all__ = ["CONTROLS", "METHODS", "DivPrune", "FastV", "RandomTokens", "ToMe"]

METHODS = {
    "divprune": "trimtab.tokens.divprune:DivPrune",
    "fastv": "trimtab.tokens.fastv:FastV",
    "tome": "trimtab.tokens.tome:ToMe",
}
CONTROLS = {"random_tokens": "trimtab.tokens.random:RandomTokens"}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS | CONTROLS, name)
