"""Mixed precision: every matrix gets bits of its own, so that the sum of losses is least under one budget.

    minimize  sum_l L_l(b_l)    with  sum_l B_l(b_l) <= B,      L_l(b) = g_l tr(D H_l D^T) / 2,   D = W_l - Q_b(W_l)

H_l is the second moment of the inputs of matrix l, summed over the calibration tokens; g_l the mean square of the
loss's gradient at what leaves its block (the diagonal of the Fisher matrix there); B_l(b) what is stored at b bits,
scales and zeros included. Q_b rounds to nearest on the same grid: how the matrices compare is asked of it, and
``method`` then does better at the bits that were given. The program is in ``trimtab.quantize.allocate``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.errors import Infeasible
from trimtab.core.fit import Site
from trimtab.core.pack import BITS
from trimtab.core.weight import Weight, rows
from trimtab.quantize.awq import AWQ
from trimtab.quantize.gptq import GPTQ
from trimtab.quantize.grid import span
from trimtab.quantize.rtn import RTN

AT_ONCE = 4096
"""Rows whose error is taken at once."""


@dataclass(frozen=True)
class Mixed:
    """``bits``: the most bits that are stored for each weight of the step's layers on average, scales and zeros
    included, or ``budget``, the same as a share of 16 bits (``0.2x``). ``choices``: the bits that a layer may get.
    ``method`` fits each layer at its bits, with the other knobs. ``milliseconds``: the most that the products of all
    the layers may take together, for ``rows`` tokens at once, as measured here; with or without a budget of bits."""

    bits: float | int | None = None
    budget: str | None = None
    choices: tuple[int, ...] = BITS
    method: Literal["rtn", "gptq", "awq"] = "gptq"
    group_size: int = 64
    symmetric: bool = False
    clip: bool = True
    milliseconds: float | int | None = None
    rows: int = 1

    CARD: ClassVar[Card] = Card(
        name="mixed",
        family="quantize",
        title="HAWQ-V3: Dyadic Neural Network Quantization",
        year=2021,
        where="ICML 2021, arXiv 2011.10680",
        saves="bytes",
        needs="data",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        departures="Weights only. A layer's loss is the error of its output weighed by the mean squared gradient "
        "behind its block, not the trace of its Hessian times the squared error of its weights; in a vision tower or "
        "projector, by the gradient at what enters the language model. Any of 2, 3, 4 and 8 bits, by gptq, awq or "
        "rounding to nearest; the program has no gap.",
    )

    def at(self, bits: int) -> RTN | GPTQ | AWQ:
        """The method at so many bits."""
        kinds: dict[str, type[RTN] | type[GPTQ] | type[AWQ]] = {"rtn": RTN, "gptq": GPTQ, "awq": AWQ}
        return kinds[self.method](bits=bits, group_size=self.group_size, symmetric=self.symmetric, clip=self.clip)

    def takes(self, bits: int, rows: int, width: int, dtype: torch.dtype) -> int:
        """What is stored for a matrix of a checkpoint in ``dtype``; ``stored`` of a method is for one of 16 bits."""
        numbers = rows * (width // span(self.group_size, width)) + (width if self.method == "awq" else 0)
        return self.at(bits).stored(rows, width, 0) + (8 * dtype.itemsize - 16) * numbers

    def most(self, weights: int) -> int:
        """The bits that so many weights may take in all; 16 each where only time is short. Raises ValueError where not
        one budget is given or it is no amount."""
        if self.milliseconds is not None and self.bits is None and self.budget is None:
            return 16 * weights
        if (self.bits is None) == (self.budget is None):
            raise ValueError(f"bits: got {self.bits} and budget {self.budget!r}; accepted: one of the two, as bits: "
                             "3.2 (stored for each weight on average) or budget: 0.2x")  # fmt: skip
        if self.budget is None:
            each = Fraction(str(self.bits))
        else:
            found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*[xX]\s*", self.budget)
            if not found:
                raise ValueError(f"budget: got {self.budget!r}; accepted: a share of 16 bits, as '0.2x'")
            each = 16 * Fraction(found[1])
        return int(each * weights)

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where a choice does not fit a row of ``width``."""
        self.most(1)
        for name in ("milliseconds", "rows"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name}: got {value}; accepted: above 0")
        if not self.choices or len(set(self.choices)) < len(self.choices):
            raise ValueError(f"choices: got {list(self.choices)}; accepted: some of {', '.join(map(str, BITS))}, each "
                             "once")  # fmt: skip
        for bits in self.choices:
            self.at(bits).check(width, rows)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits that a matrix of that shape may take. All layers together take at most the sum, each alone more or
        less."""
        return self.most(rows * width)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """A matrix by itself: the most bits that the budget pays for. Raises Infeasible, with the least possible, where
        it pays for none; else as ``method`` does."""
        self.check(w.shape[1])
        out, width = w.shape
        sizes = {bits: self.takes(bits, out, width, w.dtype) for bits in self.choices}
        paid = [bits for bits, size in sizes.items() if size <= self.most(out * width)]
        if not paid:
            raise Infeasible(f"{site.name}: mixed: {self.most(out * width):,} bits pay for none of {self.choices}; the "
                             f"least possible is {min(sizes.values()):,}")  # fmt: skip
        return self.at(max(paid))(w, site)


def lost(old: Weight, new: Weight, h: Float[Tensor, "n n"]) -> float:
    """tr(D H D^T), D = W - W', rows in parts."""
    total = 0.0
    for index in torch.split(torch.arange(old.shape[0]), AT_ONCE):
        d = rows(old, index).float() - rows(new, index).float()
        total += float(((d @ h) * d).sum())
    return max(total, 0.0)
