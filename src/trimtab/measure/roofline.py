"""The roofline of operations (Williams et al. 2009), by layer in the manner of LLM-Viewer (Yuan et al. 2024).

An operation of F operations that moves B bytes has the intensity F / B. On hardware with the peak P and the bandwidth W
it takes at least max(F / P, B / W): it is bound by memory where F / B < P / W, else by compute. A model's time is the
sum over its operations, with a cost for starting each: what an accelerator's data sheet does not say, and has to be
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from trimtab.core.errors import BadInput

WIDER = {"int4": ("int8", "bfloat16", "float32"), "int8": ("bfloat16", "float32"), "bfloat16": ("float32",)}
"""What hardware without arithmetic of a dtype computes in instead, the fastest first."""


@dataclass(frozen=True)
class Operation:
    """``name`` of the module, ``part`` of the model; ``kind``: ``product`` of a linear, ``attention``, ``embedding``,
    or torch's name of an operator. ``flops``: two for a multiplication and its addition; bytes of ``weights`` that are
    read, of keys and values in the ``cache``, and of activations, read and written; ``dtype`` that is computed in.

    Of a product ``rows`` of its input, its ``shape`` (out, in) and the ``form`` in which its matrix is stored (see
    ``trimtab.measure.work``); of attention ``rows``: queries of a sequence, ``shape``: (heads, key heads), ``entries``
    that there are, the ``share`` of pairs that are seen, and whether a mask says which (``masked``).
    """

    name: str
    part: str
    flops: float
    weights: float
    activations: float
    cache: float = 0.0
    dtype: str = "bfloat16"
    kind: str = "product"
    rows: int = 1
    shape: tuple[int, int] = (0, 0)
    form: str = ""
    entries: int = 0
    share: float = 1.0
    masked: bool = False

    @property
    def moved(self) -> float:
        """All bytes."""
        return self.weights + self.activations + self.cache

    @property
    def intensity(self) -> float:
        """Operations for a byte; infinite where none is moved."""
        return self.flops / self.moved if self.moved else float("inf")


@dataclass(frozen=True)
class Roof:
    """``peaks``: operations a second by dtype; ``bandwidth``: bytes a second by how many bytes are worked on;
    ``start``: seconds that each operation costs whatever its size."""

    name: str
    peaks: Mapping[str, float]
    bandwidth: Callable[[float], float]
    start: float = 0.0

    def peak(self, dtype: str) -> float:
        """Of ``dtype``, or of what stands in for it. Raises BadInput where nothing does."""
        for one in (dtype, *WIDER.get(dtype, ())):
            if one in self.peaks:
                return self.peaks[one]
        raise BadInput(f"{self.name}: no arithmetic of {dtype}; it has {', '.join(self.peaks)}")


@dataclass(frozen=True)
class Placed:
    """An operation under a roof: ``seconds`` it takes at least, ``bound`` by ``memory`` or ``compute``."""

    operation: Operation
    seconds: float
    bound: str


def place(operation: Operation, roof: Roof) -> Placed:
    """Where ``operation`` is under ``roof``. Raises BadInput as ``peak`` does."""
    computing = operation.flops / roof.peak(operation.dtype) if operation.flops else 0.0
    moving = operation.moved / roof.bandwidth(operation.moved)
    return Placed(operation, max(computing, moving) + roof.start, "memory" if moving > computing else "compute")


def seconds(operations: Iterable[Operation], roof: Roof) -> float:
    """Of all, one behind the other."""
    return sum(place(one, roof).seconds for one in operations)
