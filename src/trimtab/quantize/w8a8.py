"""W8A8: weights and inputs in 8 bits, multiplied in integers (ZeroQuant, Yao et al. 2022).

    y_i = t s_i (sum_j c_j k_ij) + bias_i,    c_j = round(x_j / t),  t = max_j |x_j| / 127,    k_ij = round(w_ij / s_i)

Each row of W has one scale s_i, each token one scale t, taken when it comes (dynamic): no statistics are needed. The
sum is one of integers (see ``trimtab.core.acts``), for which CPUs have instructions of their own (VNNI, AMX).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimtab.core.acts import LONGEST, DynamicInt8
from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.weight import Weight
from trimtab.quantize.rtn import RTN


@dataclass(frozen=True)
class W8A8:
    """No knobs: ranges are min-max, each row's of W and each token's."""

    acts: ClassVar[DynamicInt8] = DynamicInt8()
    CARD: ClassVar[Card] = Card(
        name="w8a8",
        family="quantize",
        title="ZeroQuant: Efficient and Affordable Post-Training Quantization for Large-Scale Transformers",
        year=2022,
        where="NeurIPS 2022, arXiv 2206.01861",
        saves="prefill",
        establishes=("on_grid", "acts_8bit"),
        preserves=("tokens_kept", "cache_kept"),
        departures="One scale for each row of a matrix, not for each group of rows, so that the sums stay in integers; "
        "no distillation. Of the rule for static int8 the "
        "arithmetic is kept (symmetric weights for each row, sums in 32 bits), and the input's range is taken at run "
        "time (w8a8_static calibrates it); nothing is requantized behind a layer.",
    )

    @property
    def weights(self) -> RTN:
        """How the matrix is rounded."""
        return RTN(bits=8, group_size=-1, symmetric=True, clip=False)

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError where the sums over a row of ``width`` do not fit 32 bits."""
        if width > LONGEST:
            raise ValueError(f"w8a8: got rows of {width}; accepted: up to {LONGEST}, whose products add up in 32 bits; "
                             "put the layer under ignore")  # fmt: skip

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes and scales. Nothing is stored for the input."""
        return self.weights.stored(rows, width, before)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """Symmetric 8-bit codes of ``w``; ``site`` is not looked at. Raises as ``check`` does."""
        self.check(w.shape[1])
        return self.weights(w, site)
