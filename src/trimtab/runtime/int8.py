"""The product of 8-bit inputs and 8-bit weights in integers, as the CPU's own instructions take it (VNNI, AMX).

The codes of the input and the sums are bit for bit those of the reference in ``trimtab.core.acts``; so is what comes
out, which is scaled by the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8, Int32
from torch import Tensor

from trimtab.core.acts import TOP, Rounding, after, before, integers
from trimtab.core.factors import Diagonal
from trimtab.core.weight import Weight

PIECE = 1 << 17
"""Numbers worked on at once: what rounding writes on the way then stays in the cache, and that is most of the time
(4,096 rows of 192 into 512 took 5 ms so and 45 ms at once, on one AMX core)."""


def sums(c: Int8[Tensor, "n in"], k: Int8[Tensor, "out in"]) -> Int32[Tensor, "n out"]:
    """sum_j c_j k_j for every row of both, in 32 bits."""
    found: Tensor = torch._int_mm(c, k.T)
    return found


def exact() -> bool:
    """Whether this CPU's product is exact at the ends of the range. Instructions before VNNI take one side unsigned,
    add two products in 16 bits, and saturate."""
    c = torch.full((32, 256), TOP, dtype=torch.int8)
    k = torch.full((32, 256), -128, dtype=torch.int8)
    c[::2], k[::3] = -TOP, TOP
    return torch.equal(sums(c, k).double(), c.double() @ k.double().T)


def unfit(w: Weight, capability: str) -> str | None:
    """Why the host of ``w``, which rounds its input, has no integer kernel on a CPU of torch's ``capability``, or None
    where it has one."""
    device = next(w.buffers()).device.type
    if device != "cpu":
        return f"on {device}: the integer product is for the CPU"
    if capability not in ("AVX2", "AVX512"):
        return f"CPU capability {capability}: torch's integer product is vectorized for AVX2 and AVX512 only"
    return None if exact() else "this CPU's integer product saturates in 16 bits"


def lowered(acts: Rounding, w: Weight) -> tuple[str, IntegerProduct]:
    """The kernel of a host that rounds its input by ``acts``, by the name that reports give it."""
    product = IntegerProduct.of(acts, w)
    return " x ".join(["int8 x int8", *("diagonal" for _ in product.factors)]), product


@dataclass(frozen=True)
class IntegerProduct:
    """A host whose input is rounded: its factors, the signed codes of its weight, a scale for each row."""

    acts: Rounding
    factors: Sequence[Diagonal]
    codes: Int8[Tensor, "out in"]
    scale: Float[Tensor, " out"]

    @classmethod
    def of(cls, acts: Rounding, w: Weight) -> IntegerProduct:
        """Codes of its own; ``w`` is not needed any more. Raises TypeError where ``w`` is not such a weight."""
        found = integers(w)
        return cls(acts, found.factors, found.codes, found.scale.clone())

    def __call__(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        flat = x.reshape(-1, x.shape[-1])
        y = flat.new_empty(len(flat), len(self.codes))
        step = max(1, PIECE // max(self.codes.shape))
        for start in range(0, len(flat), step):
            part = flat[start : start + step]
            c, t = self.acts.codes(before(self.factors, part))
            y[start : start + step] = after(sums(c, self.codes), t, self.scale, part, bias)
        return y.view(*x.shape[:-1], len(self.codes))
