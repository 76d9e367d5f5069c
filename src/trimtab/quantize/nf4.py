"""NF4: each weight takes one of 16 levels, the quantiles of a normal distribution (Dettmers et al. 2023).

    w ~ level[code] * scale,    scale = max |w| of its group,    level: in [-1, 1], 0 among them

Weights that are normally distributed fill the levels evenly. With double quantization a scale takes 8 bits: its mean
over the matrix is taken off, and what is left is an 8-bit float over the largest of 256 of them. 4 + 8/64 + 32/(64 256)
= 4.127 bits for each weight at groups of 64 (and 32 for the mean); 4.5 without.

Source: "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314, section 3 and appendix E. A base for
adapters: put ``lora`` behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.scales import Scales, coarse_count
from trimtab.core.threads import each
from trimtab.core.weight import Weight
from trimtab.quantize.grid import check, span
from trimtab.quantize.levels import BLOCK, codebook, doubled, largest, rows_of, split


@dataclass(frozen=True)
class NF4:
    """``group_size`` inputs share a scale (-1: the whole row); ``double_quant`` stores scales in 8 bits, else 32."""

    group_size: int = 64
    double_quant: bool = True

    CARD: ClassVar[Card] = Card(
        name="nf4",
        family="quantize",
        title="QLoRA: Efficient Finetuning of Quantized LLMs",
        year=2023,
        where="NeurIPS 2023, arXiv 2305.14314",
        saves="bytes",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        departures="Groups lie within a row, where the authors' blocks run on over its end: the same where 64 divides "
        "the row. The 8-bit float of a scale is E4M3, where the authors' code has a type of its own. Codes are chosen "
        "under the scale as it is stored, not under the exact one. No kernel of this CPU reads these levels: a matrix "
        "is made dense to be multiplied.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(4, self.group_size, width)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes and scales."""
        count = rows * (width // span(self.group_size, width))
        scales = 8 * count + 32 * coarse_count(count, BLOCK) + 32 if self.double_quant else 32 * count
        return 4 * rows * width + scales

    def without_data(self) -> NF4:
        """The method for a table of which no input statistic exists: itself."""
        return self

    def __call__(self, w: Weight, site: Site) -> Weight:
        """The nearest levels of ``w``; ``site`` is not looked at."""
        self.check(w.shape[1])
        read, parts, group = rows_of(w.dense().detach(), 0), split(w.shape), span(self.group_size, w.shape[1])
        top = torch.cat(each(lambda index: largest(read(index), group), parts))
        scales = doubled(top) if self.double_quant else Scales(top, "float32")
        return codebook(read, parts, scales, "nf4", w.dtype)
