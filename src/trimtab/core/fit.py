"""The protocol of layer-wise methods: one linear, its statistics, a new weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from trimtab.core.acts import Rounding
from trimtab.core.card import Card
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import Gram
from trimtab.core.weight import Weight


@dataclass(frozen=True)
class Site:
    """Where a method works: the linear's name, its original matrix, what was seen at its input, its stage's linears.

    ``source`` reads the matrix of the source checkpoint when called, for methods whose card ``wants_source``; others
    get the matrix as it is. ``gram`` is None where the method needs no data, and holds a sample of rows for those whose
    card ``wants_rows``; ``sensitivity`` is there for methods that need gradients. ``peers``: the weights of ``group``
    as they were before any of them was fitted, for methods that treat a shared input in one way. What the method found
    out and the report should say of this layer goes into ``notes``: ``damp_percent``, the damping that was used.
    """

    name: str
    source: Callable[[], Float[Tensor, "out in"]]
    gram: Gram | None = None
    group: tuple[str, ...] = field(default=())
    sensitivity: Sensitivity | None = None
    notes: dict[str, float] = field(default_factory=dict)
    peers: tuple[Weight, ...] = field(default=())


class Fit(Protocol):
    """A frozen dataclass of knobs. ``__call__`` returns the new weight and does not touch the old one.

    ``check(width, rows)`` raises ValueError, with the nearest legal value, where the knobs do not fit a matrix of that
    shape (``rows`` is None where any number will do); it is asked for every target before any work begins. ``stored``
    foretells the bits of a matrix of a 16-bit checkpoint afterwards, where it took ``before``; the most that they may
    be where the card is ``bounded``.
    """

    CARD: ClassVar[Card]

    def __call__(self, w: Weight, site: Site) -> Weight: ...
    def check(self, width: int, rows: int | None = None) -> None: ...
    def stored(self, rows: int, width: int, before: int) -> int: ...


@runtime_checkable
class RoundsInput(Protocol):
    """A ``Fit`` after which a linear also does something to its input that is not linear in it; an embedding, which has
    no input, does not."""

    acts: ClassVar[Rounding]


@runtime_checkable
class CalibratesInput(Protocol):
    """A ``Fit`` after which a linear rounds its input by what was seen at it, each in its own way."""

    def rounding(self, site: Site) -> Rounding: ...
