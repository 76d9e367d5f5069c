"""Inputs on a grid: a host that rounds what it is given before the product, so that the product is one of integers.

    t = max_j |x_j| / 127      c_j = round(x_j / t)      y = t s (sum_j c_j k_j) + bias

x is one token's input, t its scale, taken anew at each call (dynamic, per token; ``trimtab.core.staticacts`` has the
scale that is fixed); k are the signed 8-bit codes of a row
of W and s that row's scale. The sum is one of integers, at most 127 * 128 for each input, and is exact in 32 bits up to
``LONGEST`` inputs. What is linear in x stays in the weight's expression: a Chain's diagonal factors (SmoothQuant's 1/s)
are applied before the rounding, by the same expression that without it is multiplied out.

Source: Jacob et al. 2018, arXiv 1712.05877 (the arithmetic); Yao et al. 2022, "ZeroQuant", arXiv 2206.01861, section
4.1 (scales per token at run time). Departure: -128 is left out of the input's codes, so that they are symmetric.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn, final

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from trimtab.core.factors import Diagonal
from trimtab.core.joins import Chain
from trimtab.core.weight import ROWS, Quantized, Weight

TOP = 127
"""The largest code of an input."""
LONGEST = (2**31 - 1) // (TOP * 128)
"""Inputs (132,104) whose products, each at its largest, still add up in 32 bits."""


class Integers(NamedTuple):
    """A weight as its product is taken: ``factors`` on the input, the last first, then signed ``codes`` and a scale for
    each row."""

    factors: Sequence[Diagonal]
    codes: Int8[Tensor, "out in"]
    scale: Float[Tensor, " out"]


def parted(w: Weight) -> tuple[Sequence[Diagonal], Quantized]:
    """The factors on the input, and the codes. Raises TypeError where ``w`` is not 8-bit codes with one scale for each
    row and its zero at 128, with nothing but diagonal factors on its inputs, or has more than ``LONGEST`` of these."""
    first, *others = w if isinstance(w, Chain) else [w]
    factors = [part for part in others if isinstance(part, Diagonal)]
    fits = isinstance(first, Quantized) and first.bits == 8 and first.zero is None
    if not (isinstance(first, Quantized) and fits and first.scale.shape[1] == 1 and len(factors) == len(others)):
        raise TypeError(f"inputs in 8 bits: got a {type(w).__name__} weight of {list(w.shape)}; accepted: 8 bits, "
                        "symmetric, one scale for each row (group_size -1), with diagonal factors on its inputs at "
                        "most")  # fmt: skip
    if first.shape[1] > LONGEST:
        raise TypeError(f"inputs in 8 bits: got rows of {first.shape[1]}; accepted: up to {LONGEST}, whose products "
                        "add up in 32 bits")  # fmt: skip
    return factors, first


def integers(w: Weight) -> Integers:
    """``w`` for a product of integers. Raises as ``parted`` does."""
    factors, codes = parted(w)
    return Integers(factors, (codes.codes ^ 128).view(torch.int8), codes.scale[:, 0])


class Rounding(ABC):
    """What a linear does to its input: codes on a grid. Every kind leaves the product to this one."""

    @abstractmethod
    def codes(self, x: Float[Tensor, "n in"]) -> tuple[Int8[Tensor, "n in"], Float[Tensor, "n 1"]]:
        """Codes c and scales t; t is no number where a token's input is none."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Kind, version and what the kind holds; ``trimtab.core.staticacts.activation`` rebuilds it."""

    def __call__(
        self, w: Weight, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None
    ) -> Float[Tensor, "*b out"]:
        """y in x's dtype, the sums in float64, where they are exact. Raises as ``parted`` does."""
        found = integers(w)
        c, t = self.codes(before(found.factors, x))
        sums = [(c.double() @ part.double().T).float() for part in found.codes.split(ROWS)]
        return after(torch.cat(sums, 1), t, found.scale, x, bias)


@final
@dataclass(frozen=True)
class DynamicInt8(Rounding):
    """Symmetric 8-bit codes of each token's input, their scale taken when it comes. It holds nothing."""

    KIND: ClassVar[str] = "dynamic_int8"
    VERSION: ClassVar[int] = 1

    def codes(self, x: Float[Tensor, "n in"]) -> tuple[Int8[Tensor, "n in"], Float[Tensor, "n 1"]]:
        """Codes c and scales t; t is 1 where a token's input is 0, and no number where its input is none."""
        x = x.float()
        t = x.abs().amax(-1, keepdim=True) / TOP
        t = torch.where(t == 0, 1.0, t)
        return (x / t).round_().clamp_(-TOP, TOP).to(torch.int8), t

    def spec(self) -> dict[str, Any]:
        return {"kind": self.KIND, "version": self.VERSION}


def before(factors: Sequence[Diagonal], x: Float[Tensor, "*b in"]) -> Float[Tensor, "n in"]:
    """What is rounded: the tokens in float32, scaled by the factors."""
    flat = x.reshape(-1, x.shape[-1]).float()
    for factor in reversed(factors):
        flat = factor(flat)
    return flat


def after(
    sums: Tensor, t: Float[Tensor, "n 1"], scale: Float[Tensor, " out"], x: Float[Tensor, "*b in"], bias: Tensor | None
) -> Float[Tensor, "*b out"]:
    """The sums of integers scaled in float32, with the bias, in the dtype and leading axes of ``x``."""
    y = sums.float().mul_(t).mul_(scale.float())
    y = y if bias is None else y.add_(bias)
    return y.to(x.dtype).view(*x.shape[:-1], y.shape[1])


class Untaught(torch.autograd.Function):
    """A product through which no gradient comes: asked for one, it says so, where rounding would pass on zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Callable[[Tensor], Tensor], name: str) -> Tensor:
        ctx.name = name
        return product(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> NoReturn:
        raise TypeError(f"{ctx.name}: rounds its input to 8-bit codes, through which there is no gradient; train "
                        "before w8a8, w8a8_static or smoothquant")  # fmt: skip
