"""What this machine reaches, as predictions ask for it: curves over sizes and shapes, each measured by ``doctor``.

No figure here comes from a model that is predicted: products, attention and operators are timed on matrices of random
numbers and on decoders of a few small random layers (``trimtab.measure.limits``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import exp, log, sqrt
from typing import Any

from trimtab.core.errors import BadInput

STREAM = 96 << 20
"""Bytes of a matrix that no cache holds."""


@dataclass(frozen=True)
class Curve:
    """Positive values over positive sizes, ascending; between them straight in logarithms, beyond them the last."""

    sizes: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, size: float) -> float:
        """The value at ``size``. Raises BadInput for an empty curve."""
        if not self.sizes:
            raise BadInput("ceilings: a curve without a point; next: trimtab doctor")
        place = bisect_left(self.sizes, size)
        if place in (0, len(self.sizes)):
            return self.values[min(place, len(self.sizes) - 1)]
        low, high = self.sizes[place - 1], self.sizes[place]
        share = log(size / low) / log(high / low)
        return exp((1 - share) * log(self.values[place - 1]) + share * log(self.values[place]))


@dataclass(frozen=True)
class Products:
    """``rates``: operations a second by rows of input, a curve over the matrix's size sqrt(out in) for each;
    ``stream``: bytes a second of a matrix of ``STREAM`` bytes, larger than the caches, by one row; ``cold``: seconds
    before the bytes of a matrix that is not in the caches come as fast as they will."""

    rows: tuple[float, ...]
    rates: tuple[Curve, ...]
    stream: float = 1e18
    cold: float = 0.0

    def at(self, rows: float, shape: tuple[int, int]) -> float:
        """Operations a second of ``rows`` by a matrix of ``shape``."""
        size = sqrt(shape[0] * shape[1])
        return Curve(self.rows, tuple(one.at(size) for one in self.rates)).at(rows)


@dataclass(frozen=True)
class Attention:
    """``prompt``: operations a second of pairs that are seen, by queries of a head; ``word``: seconds in which one
    query of each head reads keys and values of so many bytes."""

    prompt: Curve
    word: Curve

    def reading(self, size: float) -> float:
        """Seconds to read ``size`` bytes: beyond the largest that was measured, as many times longer."""
        return self.word.at(size) * max(1.0, size / self.word.sizes[-1])


@dataclass(frozen=True)
class Ceilings:
    """What ``doctor`` measures here.

    ``products`` by form: of the library under ``bfloat16`` and ``float32``, ours under ``compiled ...``; ``attention``:
    ``library``, ``masked`` (the library's under a mask, all pairs), ``compiled``. Bytes a second: ``reading``, by
    working set; ``elements``: of operators on each element, ``curves``: of those with exponentials; ``disk``. Seconds:
    ``operator``: of an operator of torch in a model, its share of Python included; ``host``: of a compiled product that
    Python calls; ``call``: of the library's forward whatever its layers, ``seeing``: of one that is given a picture's
    features; ``generated``: of a word that ``generate`` adds, beside the forward; ``plan_call``, ``plan_layer``: of a
    plan's call and layer beside its products; ``plan_row``: of a byte of a plan's stream. Of a fresh process ``start``
    in seconds, ``resident``: bytes with all of it imported, ``words``: bytes for one of a tokenizer's file.
    ``machine``: what it was measured on; ``steady``: whether memory read alike all the while.
    """

    reading: Curve
    products: Mapping[str, Products]
    attention: Mapping[str, Attention]
    elements: Mapping[str, float]
    curves: Mapping[str, float]
    operator: float
    host: float
    call: float
    seeing: float = 0.0
    generated: float = 0.0
    plan_call: float = 0.0
    plan_layer: float = 0.0
    plan_row: float = 0.0
    disk: float = 1e9
    start: float = 0.0
    resident: float = 0.0
    words: float = 0.0
    machine: Mapping[str, Any] = field(default_factory=dict)
    steady: bool = True

    @property
    def compiled(self) -> bool:
        """Whether the compiled library was there."""
        return "compiled" in self.attention

    def row(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Ceilings:
        """The inverse of ``row``. Raises BadInput for data of another form."""
        try:
            made = {
                "reading": _curve(row["reading"]),
                "products": {name: _products(one) for name, one in row["products"].items()},
                "attention": {name: Attention(_curve(one["prompt"]), _curve(one["word"]))
                              for name, one in row["attention"].items()},
            }  # fmt: skip
            return cls(**{**row, **made})
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"ceilings: not as this version writes them ({error}); next: trimtab doctor") from error


def _curve(row: Mapping[str, Sequence[float]]) -> Curve:
    return Curve(tuple(row["sizes"]), tuple(row["values"]))


def _products(row: Mapping[str, Any]) -> Products:
    return Products(tuple(row["rows"]), tuple(map(_curve, row["rates"])), row["stream"], row["cold"])
