"""An expression from its description: the inverse of ``spec``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.core.blocks import Blocks
from trimtab.core.codebook import Codebook
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.joins import Chain, Hadamard, Sum
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized, Weight

KINDS: Mapping[str, type[Weight]] = {
    "dense": Dense,
    "quantized": Quantized,
    "masked": Masked,
    "codebook": Codebook,
    "low_rank": LowRank,
    "diagonal": Diagonal,
    "blocks": Blocks,
    "sum": Sum,
    "chain": Chain,
    "hadamard": Hadamard,
}
"""Every kind of node by the name that its ``spec`` has."""


def build(spec: Mapping[str, Any]) -> Weight:
    """An empty node of ``spec`` (tensors on the default device) for ``load_state_dict`` to fill.

    Raises ValueError on a kind or version that this Trimtab does not know.
    """
    kind = KINDS.get(str(spec.get("kind")))
    if kind is None or spec.get("version") not in (kind.VERSION, *kind.OLDER):
        known = ", ".join(f"{name!r} {node.VERSION}" for name, node in KINDS.items())
        raise ValueError(f"weight spec: got kind {spec.get('kind')!r} version {spec.get('version')!r}; known: {known}")
    return kind.empty(spec)
