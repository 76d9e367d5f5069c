"""What is written into a graph otherwise than it stands in the artifact."""

from __future__ import annotations

from collections import Counter

from trimtab.core.joins import leaves
from trimtab.core.weight import Quantized
from trimtab.export.integers import container
from trimtab.load.artifact import hosts
from trimtab.load.loaded import Loaded


def notes(loaded: Loaded) -> list[str]:
    """Sentences on containers and on what stays dense."""
    said = ["products are computed in float32; codes, zeros and scales are those of the artifact"]
    found = {id(leaf): leaf for _, host in hosts(loaded.anatomy) for leaf in leaves(host.w)}
    small = Counter(leaf.bits for leaf in found.values() if isinstance(leaf, Quantized) and leaf.bits < 4)
    extra = sum(_wasted(leaf) for leaf in found.values() if isinstance(leaf, Quantized))
    if small:
        named = " and ".join(f"{count} matrices of {bits} bits" for bits, count in sorted(small.items()))
        said.append(f"{named} stand in containers of 4 bits, the same numbers: {extra:,} bytes more")
    dense = sorted(name for name, host in hosts(loaded.anatomy) if not any(_coded(leaf) for leaf in leaves(host.w)))
    if dense:
        shown = ", ".join(dense[:4]) + (", ..." if len(dense) > 4 else "")
        said.append(f"{len(dense)} matrices are dense, as in the artifact: {shown}")
    return said


def _coded(leaf: object) -> bool:
    return isinstance(leaf, Quantized)


def _wasted(leaf: Quantized) -> int:
    rows, width = leaf.shape
    return rows * width * (container(leaf.bits) - leaf.bits) // 8
