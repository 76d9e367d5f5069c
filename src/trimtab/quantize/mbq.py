"""MBQ: AWQ's scales, chosen by what an error at each kind of token costs the answer (Li et al. 2024).

    minimize over a:  [sum over text |y - y'| + r * sum over image tokens |y - y'|] / count,    y = W x,  y' = W' x

    r = mean |dL/dh| over image tokens / mean |dL/dh| over text tokens

h is what leaves the layer's block, L the loss of the answers (arXiv 2412.19509, section 3.2). Image tokens are many and
the answer often turns little on each; without r they choose the scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.fit import Site
from trimtab.core.reservoir import Reservoir
from trimtab.core.stats import KINDS, TEXT
from trimtab.core.weight import Weight
from trimtab.quantize.grid import check, stored
from trimtab.quantize.rtn import RTN
from trimtab.quantize.scaled import Input, fitted


def lost(d: Float[Tensor, "n rows"], x: Float[Tensor, "m n"], cost: Float[Tensor, " m"]) -> Float[Tensor, " rows"]:
    """sum over the tokens x of cost |d x| for each row d of D."""
    return cost @ (x @ d).abs_()


def shares(sample: Reservoir) -> tuple[Float[Tensor, "m n"], Float[Tensor, " m"], list[int]]:
    """The rows that stayed, for how many of all rows each stands, as a share, and each row's kind."""
    held = [len(sample.of(kind)) for kind in range(len(KINDS))]
    total = sum(seen for seen, count in zip(sample.seen.tolist(), held, strict=True) if count)
    each = [seen / (count * total) for seen, count in zip(sample.seen.tolist(), held, strict=True) if count]
    kinds = [kind for kind, count in enumerate(held) for _ in range(count)]
    present = torch.tensor([count for count in held if count])
    return sample.read(), torch.tensor(each).repeat_interleave(present), kinds


@dataclass(frozen=True)
class MBQ:
    """``bits`` 2, 3, 4 or 8; ``group_size`` inputs share a scale (-1: the whole row); ``symmetric`` stores no zero;
    ``clip`` searches each group's range, row by row where that loses less than min-max; ``ratio``: r of every kind but
    text, None for the measured one of each block (1: all tokens count alike)."""

    bits: int = 4
    group_size: int = 64
    symmetric: bool = False
    clip: bool = True
    ratio: float | None = None

    CARD: ClassVar[Card] = Card(
        name="mbq",
        family="quantize",
        title="MBQ: Modality-Balanced Quantization for Large Vision-Language Models",
        year=2024,
        where="CVPR 2025, arXiv 2412.19509",
        saves="bytes",
        needs="gradients",
        wants_rows=True,
        baseline="rtn",
        guarantee="usual",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        departures="Weights only: neither activations (W4A8) nor the authors' fused kernel. r is taken where a block "
        "ends, for the last one where it begins; the authors' code has one for attention and one for the MLP, and "
        "raises each to the median over the blocks. Text means every word of prompt and answer, not the answer alone. "
        "Text and image tokens are up to 512 each, drawn from all and counted for all. Each linear has an exponent of "
        "its own, on its own output; 1/s is kept beside the codes; ranges are clipped as in awq, by this loss; where "
        "rounding to nearest loses less, it stays.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.bits, self.group_size, width)
        if self.ratio is not None and not 0 <= self.ratio < float("inf"):
            raise ValueError(f"ratio: got {self.ratio}; accepted: 0 or more (1: image tokens count as text does), or "
                             "nothing, for the measured one")  # fmt: skip

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes, scales and zeros, and a factor for each input."""
        return stored(rows, width, self.bits, self.group_size, self.symmetric) + 16 * width

    def without_data(self) -> RTN:
        """The method for a table of which no input statistic exists: clipped rounding on the same grid."""
        return RTN(self.bits, self.group_size, self.symmetric, self.clip)

    def weights(self, site: Site) -> Float[Tensor, " kinds"]:
        """What a token of each kind counts. Raises BadInput where neither the knob nor a measurement says so."""
        if self.ratio is not None:
            return torch.where(torch.arange(len(KINDS)) == TEXT, 1.0, self.ratio)
        if site.sensitivity is None:
            raise BadInput(f"{site.name}: mbq needs the sensitivity of its block, and none was measured (accepted: "
                           "site.sensitivity, or ratio: 1)")  # fmt: skip
        return site.sensitivity.weights(site.name)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` on a grid, scaled. Raises BadInput without sampled rows or sensitivity, Anomaly where a row is no
        number."""
        self.check(w.shape[1])
        sample = None if site.gram is None else site.gram.sample
        if not isinstance(sample, Reservoir) or not len(sample.read()):
            raise BadInput(f"{site.name}: mbq needs rows of calibration data, and none were seen (accepted: a Gram "
                           "with a Reservoir as site.gram.sample)")  # fmt: skip
        x, share, kinds = shares(sample)
        if not x.isfinite().all():
            raise Anomaly(f"{site.name}: an input is not finite. Look at the calibration data of this layer")
        cost = share * self.weights(site)[kinds]
        square = cost @ x.square()
        given = Input(share @ x.abs(), torch.where(square > 0, square, square.mean()), lambda d: lost(d, x, cost))
        return fitted(w, self.without_data()(w, site), given, self)
