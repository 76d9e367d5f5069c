"""SmoothQuant: outliers of the input are moved into the weights, where 8 bits can hold them (Xiao et al. 2022).

    W x = (W diag(s)) (diag(1/s) x),    s_j = max |x_j|^a / max_i |w_ij|^(1 - a)    (arXiv 2211.10438, equation 4)

A few inputs of a transformer are a hundred times larger than the rest in every token. They set the scale of each
token's codes, and the others get few steps. After the division all inputs are alike; W diag(s) is harder to round, but
each of its rows has a scale of its own. At a = 1 inputs are all of one size, at a = 0 the columns of W.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.acts import DynamicInt8
from trimtab.core.card import Card
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.factors import Diagonal
from trimtab.core.fit import Site
from trimtab.core.joins import Chain
from trimtab.core.weight import Weight
from trimtab.quantize.w8a8 import W8A8

LEAST = 1e-4
"""Of the largest factor: no factor is smaller, so that all of them fit 16-bit numbers around 1."""


def factors(inputs: Float[Tensor, " n"], weights: Float[Tensor, " n"], alpha: float) -> Float[Tensor, " n"]:
    """s from the largest |x_j| and the largest |w_ij| of each input, over the geometric mean of its largest and its
    smallest: a common factor changes no code. An input that was always 0, or has no weight, gets the mean itself."""
    alive = (inputs > 0) & (weights > 0)
    if not alive.any():
        return torch.ones_like(inputs)
    log = (alpha * inputs.double().log() - (1 - alpha) * weights.double().log())[alive]
    log = log.clamp(min=log.max() + math.log(LEAST))
    found = torch.ones_like(inputs)
    found[alive] = (log - (log.max() + log.min()) / 2).exp().float()
    return found


@dataclass(frozen=True)
class SmoothQuant:
    """``alpha``: how much of the inputs' range the weights take, 0 to 1; 0.5 shares it evenly. The authors take up to
    0.9 where their inputs, rounded with one scale for a whole tensor, have many outliers."""

    alpha: float = 0.5

    acts: ClassVar[DynamicInt8] = DynamicInt8()
    CARD: ClassVar[Card] = Card(
        name="smoothquant",
        family="quantize",
        title="SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
        year=2022,
        where="ICML 2023, arXiv 2211.10438",
        saves="prefill",
        needs="data",
        wants_moment=False,
        baseline="w8a8",
        guarantee="usual",
        establishes=("on_grid", "acts_8bit"),
        preserves=("tokens_kept", "cache_kept"),
        departures="1/s is kept beside the codes (one 16-bit number for each input, one product for each input at run "
        "time) and not folded into the norm before, so that every linear can be smoothed, behind whatever it stands; s "
        "is divided by a number common to all inputs, which changes no code; linears that share an input share one s "
        "where they are fitted in one step. Scales for each token and each row, as in the authors' O1 setting.",
    )

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError where ``alpha`` is no share, or as ``W8A8`` does."""
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha: got {self.alpha}; accepted: 0 to 1 (0.5 is usual)")
        W8A8().check(width, rows)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes and scales, and a factor for each input."""
        return W8A8().stored(rows, width, before) + 16 * width

    def without_data(self) -> W8A8:
        """The method for a matrix of which no input is seen: nothing is smoothed."""
        return W8A8()

    def __call__(self, w: Weight, site: Site) -> Weight:
        """Codes of W diag(s), and 1/s. Raises BadInput without ``site.gram``, Anomaly where that holds no numbers."""
        self.check(w.shape[1])
        if site.gram is None:
            raise BadInput(f"{site.name}: smoothquant needs calibration data, and no input was seen (accepted: "
                           "site.gram)")  # fmt: skip
        if not site.gram.largest.isfinite().all():
            raise Anomaly(f"{site.name}: some inputs were not finite. Look at the calibration data of this layer")
        largest = torch.stack([peer.dense().abs().amax(0).float() for peer in site.peers or (w,)]).amax(0)
        back = (1 / factors(site.gram.largest, largest, self.alpha)).to(w.dtype)
        scaled = w.dense().detach().float() / back.float()
        return Chain([W8A8().weights.rounded(scaled, w.dtype), Diagonal(back)])
