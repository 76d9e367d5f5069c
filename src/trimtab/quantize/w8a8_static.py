"""Static W8A8: weights and inputs in 8 bits, the range of the inputs found once, in calibration (Jacob et al. 2018).

    y_i = t s_i (sum_j c_j k_ij) + bias_i,    c_j = clamp(round(x_j / t), -127, 127),    t = T / 127

T is one number for a linear, stored. ``minmax``: the largest size seen, so that nothing seen is clipped. ``percentile``
and ``kl`` clip the few largest and give all others finer steps (see ``trimtab.quantize.thresholds``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.acts import TOP, Rounding
from trimtab.core.card import Card
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.fit import Site
from trimtab.core.reservoir import Reservoir
from trimtab.core.staticacts import StaticInt8
from trimtab.core.stats import KINDS, PADDING, Gram
from trimtab.core.weight import Weight
from trimtab.quantize import thresholds
from trimtab.quantize.w8a8 import W8A8


@dataclass(frozen=True)
class W8A8Static:
    """``inputs``: how T is found, ``minmax``, ``percentile`` or ``kl``; ``percentile``: the share of inputs that keep
    their size, in percent, where that is asked for."""

    inputs: Literal["minmax", "percentile", "kl"] = "minmax"
    percentile: float = 99.99

    CARD: ClassVar[Card] = Card(
        name="w8a8_static",
        family="quantize",
        title="Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        year=2018,
        where="CVPR 2018, arXiv 1712.05877",
        saves="prefill",
        needs="data",
        wants_moment=False,
        wants_rows=True,
        establishes=("on_grid", "acts_8bit"),
        preserves=("tokens_kept", "cache_kept"),
        departures="Inputs have a symmetric grid without a zero point, weights one scale for each row; percentile and "
        "KL read a sample of 512 rows of each kind of token, each row weighed by how many it stands for, and leave out "
        "zeros, which every grid holds. Nothing is requantized behind a layer: the next one rounds its own input.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError where ``percentile`` is no share, or as ``W8A8`` does."""
        if not 50 <= self.percentile <= 100:
            raise ValueError(f"percentile: got {self.percentile}; accepted: 50 to 100 (99.99 is usual)")
        W8A8().check(width, rows)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes and scales. The input's one number stands in the manifest."""
        return W8A8().stored(rows, width, before)

    def without_data(self) -> W8A8:
        """The method for a matrix of which no input is seen: ranges are taken at run time."""
        return W8A8()

    def __call__(self, w: Weight, site: Site) -> Weight:
        """Symmetric 8-bit codes of ``w``, as ``W8A8`` has them."""
        return W8A8()(w, site)

    def rounding(self, site: Site) -> Rounding:
        """The input's grid. Raises BadInput without ``site.gram`` or, but for ``minmax``, its sample; Anomaly where
        they hold no numbers."""
        gram = site.gram
        if gram is None or not (self.inputs == "minmax" or isinstance(gram.sample, Reservoir)):
            raise BadInput(f"{site.name}: w8a8_static needs calibration data, and no input was seen (accepted: "
                           "site.gram, but for minmax with a Reservoir as its sample)")  # fmt: skip
        if not gram.largest.isfinite().all():
            raise Anomaly(f"{site.name}: some inputs were not finite. Look at the calibration data of this layer")
        largest = float(gram.largest.amax())
        if self.inputs != "minmax" and isinstance(gram.sample, Reservoir):
            sizes, counts = sampled(gram, gram.sample)
            by_share = partial(thresholds.percentile, share=self.percentile)
            find = by_share if self.inputs == "percentile" else thresholds.kl
            largest = find(sizes, counts) if len(sizes) else largest
        return StaticInt8(float(torch.tensor(largest / TOP)) or 1.0)


def sampled(gram: Gram, sample: Reservoir) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Sizes of the sampled inputs that are not 0, and how many rows that count each of them stands for."""
    sizes, counts = [], []
    for kind in range(len(KINDS)):
        rows, weight = sample.of(kind), 1.0 if gram.weights is None else float(gram.weights[kind])
        if kind != PADDING and len(rows) and weight:
            sizes.append(rows.abs().flatten())
            counts.append(torch.full((rows.numel(),), weight * int(sample.seen[kind]) / len(rows)))
    if not sizes:
        return torch.zeros(0), torch.zeros(0)
    size, count = torch.cat(sizes), torch.cat(counts)
    return size[size > 0], count[size > 0]
