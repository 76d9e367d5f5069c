"""LoRA: a frozen matrix and, beside it, a trained one of low rank (Hu et al. 2021); on a quantized base it is QLoRA.

    y = W x + s B A x,    B (out, r) begins at 0, A (r, in) at random,    s = alpha / r  (rsLoRA: alpha / sqrt(r))

Only A and B are trained; W is whatever stands there (16-bit, on a grid of 2 to 8 bits, pruned), dequantized for each
use, and never changes. At the start the model answers as it did.

On a pruned W the correction is kept to the mask, W + M * (s B A), and merged when training ends: what was 2:4 stays so
(as in LoRS and SPP); an unmasked B A would fill the matrix.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685 (ICLR 2022); quantized bases:
Dettmers et al. 2023, arXiv 2305.14314; s: Kalajdzievski 2023, arXiv 2312.03732. A begins as in the PEFT library,
uniform in +-1 / sqrt(in), not Gaussian as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from trimtab.core.card import Card
from trimtab.core.factors import LowRank
from trimtab.core.joins import Hadamard, Sum
from trimtab.core.sparse import Masked
from trimtab.core.weight import Weight


@dataclass(frozen=True)
class LoRA:
    """``r``, ``lora_alpha``, ``use_rslora``, ``lora_dropout``, ``target_modules`` as in PEFT (aliases such as
    ``language`` too). ``dataset``: by default the task's own, whose ``num_samples`` are taken from the split that
    calibrates; ``validation``: the share of them, whole groups, on which training is stopped. ``epochs`` at most; after
    ``patience`` looks without a lower validation loss it ends, and the best adapter stays.
    """

    r: int = 8
    lora_alpha: float = 16.0
    target_modules: tuple[str, ...] = ("language",)
    epochs: int = 3
    dataset: str | None = None
    num_samples: int = 2000
    learning_rate: float = 2e-4
    batch_size: int = 16
    lora_dropout: float = 0.0
    use_rslora: bool = False
    validation: float = 0.1
    patience: int = 3
    seed: int = 0

    CARD: ClassVar[Card] = Card(
        name="lora",
        family="adapt",
        title="LoRA: Low-Rank Adaptation of Large Language Models",
        year=2021,
        where="ICLR 2022, arXiv 2106.09685",
        saves="none",
        needs="gradients",
        establishes=("adapter",),
        preserves=("on_grid", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
        departures="A begins uniform in +-1/sqrt(in), as in PEFT. On a pruned matrix the correction is kept to the "
        "mask and merged at the end.",
    )

    def check(self, width: int, out: int | None = None) -> None:
        """Raises ValueError, naming the knob and what it takes, where the knobs are wrong for a matrix of that size
        (0: of any)."""
        least = min(width, out if out is not None else width)
        if self.r < 1 or (width and self.r > least):
            raise ValueError(f"r: got {self.r}; accepted: 1 to {least or 'the lesser dimension'}, the rank of B A")
        for name, value, high in (("lora_dropout", self.lora_dropout, 1), ("validation", self.validation, 1)):
            if not 0 <= value < high:
                raise ValueError(f"{name}: got {value}; accepted: 0 to below {high}")
        for name in ("epochs", "num_samples", "batch_size", "patience", "learning_rate", "lora_alpha"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; accepted: above 0")

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits that are stored for a matrix for which ``before`` were: the factors in 16 bits beside it."""
        return before + 16 * self.r * (rows + width)

    @property
    def scale(self) -> float:
        """s, by which B A is multiplied."""
        return self.lora_alpha / (self.r**0.5 if self.use_rslora else self.r)

    def start(self, shape: tuple[int, int], generator: torch.Generator) -> LowRank:
        """B A with B = 0, in float32, to be trained."""
        out, width = shape
        right = (2 * torch.rand(self.r, width, generator=generator) - 1) * width**-0.5
        low = LowRank(nn.Parameter(torch.zeros(out, self.r)), nn.Parameter(right), self.scale)
        low.drop = self.lora_dropout
        return low


def attached(w: Weight, low: LowRank) -> Sum:
    """``w`` and beside it ``low``, kept to the mask of a ``w`` that is pruned."""
    if isinstance(w, Masked):
        ones = w.like(torch.ones_like(w.values, dtype=low.dtype))
        return Sum([w, Hadamard([ones, low])])
    return Sum([*w, low] if isinstance(w, Sum) else [w, low])


def settled(w: Sum, dtype: torch.dtype) -> Weight:
    """What is left when training has ended: adapters in ``dtype``; those of a pruned matrix merged into its values."""
    base, *_, last = w
    if isinstance(last, Hadamard):
        assert isinstance(base, Masked)
        return Masked.of(w.dense().detach(), base.kept())
    assert isinstance(last, LowRank)
    return Sum([*list(w)[:-1], frozen(last, dtype)])


def frozen(low: LowRank, dtype: torch.dtype) -> LowRank:
    """The same in ``dtype``, no longer trained."""
    return LowRank(low.left.detach().to(dtype), low.right.detach().to(dtype), low.scale)
