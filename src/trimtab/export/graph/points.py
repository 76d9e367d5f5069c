"""A model ready to be drawn: a float32 copy whose stored matrices are points that only name what they stand for.

The copy holds no codes and no dense matrix of a host: each ``Dense`` and ``Quantized`` leaf becomes one node of the
graph, ``trimtab::Linear`` or ``trimtab::Rows`` with the leaf's name, and the writer of a format puts its own form of
the same numbers there. What is small (norms, biases, low-rank factors, positions) goes along as it is.
"""

from __future__ import annotations

import copy
from functools import singledispatch
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.joins import Chain, Sum
from trimtab.core.linear import Embedding, Host, Linear
from trimtab.core.weight import Dense, Quantized, Weight

DOMAIN = "trimtab"
LINEAR, ROWS = "Linear", "Rows"
LEAF = "leaf"
Leaves = dict[str, "Dense | Quantized"]


class Point(nn.Module):
    """Where a stored matrix (out, in) stands: x @ W.T as a linear, rows of W by id in a ``Table``."""

    def __init__(self, leaf: Dense | Quantized, name: str) -> None:
        super().__init__()
        self.name, self.shape = name, leaf.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def forward(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        y = self._node(LINEAR, x, self.shape[0])
        return y if bias is None else y + bias

    def rows(self, ids: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
        """W[ids]."""
        return self._node(ROWS, ids, self.shape[1], whole=True)

    def _node(self, kind: str, x: Tensor, width: int, whole: bool = False) -> Tensor:
        shape = (*(x.shape if whole else x.shape[:-1]), width)
        found: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{kind}", (x,), {LEAF: self.name}, dtype=torch.float32, shape=shape, version=1
        )
        return found


class Added(nn.Module):
    """A ``Sum`` of points and factors."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        first, *others = self.parts
        y: Tensor = first(x, bias)
        for part in others:
            y = y + part(x)
        return y


class Composed(Added):
    """A ``Chain`` of points and factors."""

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        first, *others = self.parts
        for part in reversed(others):
            x = part(x)
        y: Tensor = first(x, bias)
        return y


class Table(nn.Module):
    """Rows of a point by token id, times ``factor``."""

    def __init__(self, point: Any, factor: float) -> None:
        super().__init__()
        self.point, self.factor = point, factor

    def forward(self, ids: Integer[Tensor, "*b"]) -> Float[Tensor, "*b width"]:
        found: Tensor = self.point.rows(ids)
        return found if self.factor == 1.0 else found * self.factor


@singledispatch
def drawn(w: Weight, name: str, leaves: Leaves) -> nn.Module:
    """``w`` with points for its stored matrices, which are entered in ``leaves``. ``forms.refuse`` has said before
    which kinds there may be."""
    raise TypeError(f"{name}: no rule for {type(w).__name__}")


@drawn.register
def _(w: Dense | Quantized, name: str, leaves: Leaves) -> nn.Module:
    leaves[name] = w
    return Point(w, name)


@drawn.register
def _(w: LowRank | Diagonal, name: str, leaves: Leaves) -> nn.Module:
    return copy.deepcopy(w)


@drawn.register
def _(w: Sum | Chain, name: str, leaves: Leaves) -> nn.Module:
    parts = [drawn(part, f"{name}.{index}", leaves) for index, part in enumerate(w)]
    return Added(parts) if isinstance(w, Sum) else Composed(parts)


def points_of(model: nn.Module) -> tuple[Any, Leaves]:
    """A float32 copy of a hosted model with points, and their leaves by name; the model itself stays as it is."""
    leaves: Leaves = {}
    memo: dict[int, Any] = {}
    for host in (module for module in model.modules() if isinstance(module, Host)):
        if id(host.w) not in memo:
            memo[id(host.w)] = drawn(host.w, host.name, leaves)
        if isinstance(host, Linear) and host.kernel is not None:
            memo[id(host.kernel)] = None  # the reference is drawn
    drawing = copy.deepcopy(model, memo).float().eval()
    for path, module in list(drawing.named_modules()):
        if isinstance(module, Embedding):
            drawing.set_submodule(path, Table(module.w, module.factor))
    return drawing, leaves
