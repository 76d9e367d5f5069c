"""Maps made of maps: a sum of several on the same input, one after another, and a product by elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from trimtab.core.factors import Diagonal
from trimtab.core.weight import Weight, rows, times, wide

Build = Callable[[Mapping[str, Any]], Weight]


class Join(Weight):
    """What both joins share: ``parts`` in order, the first of which says the dtype."""

    KIND: str

    def __init__(self, parts: Sequence[Weight]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Weight:
        from trimtab.core.build import build

        return cls([build(part) for part in spec["parts"]])

    def __iter__(self) -> Iterator[Weight]:
        return (part for part in self.parts if isinstance(part, Weight))

    @property
    def first(self) -> Weight:
        """The part that stands first."""
        return next(iter(self))

    @property
    def dtype(self) -> torch.dtype:
        return self.first.dtype

    def spec(self) -> dict[str, Any]:
        return {"kind": self.KIND, "version": self.VERSION, "parts": [part.spec() for part in self]}


@final
class Sum(Join):
    """parts[0] + parts[1] + ...: a quantized matrix and what repairs it (EoRA), a base and its adapter (LoRA)."""

    KIND = "sum"

    @property
    def shape(self) -> tuple[int, int]:
        return self.first.shape

    def dense(self) -> Float[Tensor, "out in"]:
        total = torch.stack([wide(part.dense()) for part in self]).sum(0)
        return total.to(self.dtype)

    def forward(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        first, *others = self
        y: Tensor = first(x, bias)
        for part in others:
            y = y + part(x)
        return y


@final
class Chain(Join):
    """parts[0] @ parts[1] @ ...: the last sees the input first."""

    KIND = "chain"

    @property
    def shape(self) -> tuple[int, int]:
        *_, last = self
        return self.first.shape[0], last.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return next((part.dtype for part in self if not isinstance(part, Diagonal)), self.first.dtype)

    def dense(self) -> Float[Tensor, "out in"]:
        found, *others = self
        product = wide(found.dense())
        for part in others:
            product = times(part, product)
        return product.to(self.dtype)

    def forward(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        first, *others = self
        for part in reversed(others):
            x = part(x)
        y: Tensor = first(x, bias)
        return y


@final
class Hadamard(Join):
    """parts[0] * parts[1] * ... by elements: a correction kept to a mask. It is made dense for every call."""

    KIND = "hadamard"

    @property
    def shape(self) -> tuple[int, int]:
        return self.first.shape

    def dense(self) -> Float[Tensor, "out in"]:
        return torch.stack([wide(part.dense()) for part in self]).prod(0).to(self.dtype)


def leaves(w: Weight) -> Iterator[Weight]:
    """The leaves of an expression, from the left."""
    if isinstance(w, Join):
        for part in w:
            yield from leaves(part)
    else:
        yield w


@rows.register
def _(w: Sum, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    return torch.stack([wide(rows(part, index)) for part in w]).sum(0).to(w.dtype)


@rows.register
def _(w: Hadamard, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    return torch.stack([wide(rows(part, index)) for part in w]).prod(0).to(w.dtype)


@rows.register
def _(w: Chain, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    first, *others = w
    if isinstance(first, Diagonal):
        rest = Chain(others) if len(others) > 1 else others[0]
        return (wide(rows(rest, index)) * wide(first.value[index])[..., None]).to(w.dtype)
    found = wide(rows(first, index))
    for part in others:
        found = times(part, found)
    return found.to(w.dtype)
