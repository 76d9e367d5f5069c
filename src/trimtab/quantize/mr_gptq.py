"""MR-GPTQ: GPTQ for MXFP4 and NVFP4, on inputs that are mixed in small blocks (Egiazarian et al. 2025).

    W ~ Q(W H) H,    H: block-diagonal, normalized Hadamard blocks of ``rotate`` inputs (its own inverse)

Q rounds column by column as GPTQ does, the columns still to come making up for each error by the inverse of
H X X^T H = U^-1 U^-T; three things differ. Scales are searched by squared error before the first column and stay.
Columns go in falling order of their share of the inputs' second moment, while each keeps the scale of the group in
which it stands, so no group moves and nothing has to be stored for the order. Levels are those of E2M1.

Source: "Bridging the Gap Between Promise and Performance for Microscaling FP4 Quantization", arXiv 2509.23202,
section 5; the sweep: Frantar et al. 2022, arXiv 2210.17323.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from trimtab.core.blocks import rotated_moment
from trimtab.core.card import Card
from trimtab.core.codebook import Codebook
from trimtab.core.fit import Site
from trimtab.core.hessian import check_damp, rooted, seen
from trimtab.core.pack import pack
from trimtab.core.stats import Gram
from trimtab.core.threads import each
from trimtab.core.weight import Weight
from trimtab.quantize.fp4 import FP4, check, stored
from trimtab.quantize.levels import FORMATS, codes_of, fp4_scales, rows_of, served, snapped, split, under
from trimtab.quantize.rotation import turned

BLOCK = 128
"""Columns fixed before the rest of the row is brought up to date by one matrix product."""
CHUNK = 4096
"""Rows worked on at once."""


class Basis(NamedTuple):
    """``order`` of the rotated inputs by falling second moment, and the inverse ``root`` of their H in it."""

    order: Integer[Tensor, " n"]
    root: Float[Tensor, "n n"]


def basis(site: Site, rotate: int, damp: float) -> Basis:
    """Of a site, once for the linears that share an input. How much was damped goes into the site's notes. Raises
    BadInput where no input was seen, Anomaly where the moment is no number or cannot be factorized."""
    key, done = f"mr_gptq {rotate} {damp}", {} if site.gram is None else site.gram.derived
    if f"{key}: root" not in done:
        h = rotated_moment(seen(site, "mr_gptq"), rotate)
        order = h.diagonal().argsort(descending=True, stable=True)
        gram = Gram(len(h))
        gram.total = h[order][:, order]
        inner = replace(site, gram=gram)
        done |= {f"{key}: order": order, f"{key}: root": rooted(inner, "mr_gptq", damp).root}
        done[f"{key}: used"] = torch.tensor(inner.notes["damp_percent"], dtype=torch.float64)
    site.notes["damp_percent"] = float(done[f"{key}: used"])
    return Basis(*(done[f"{key}: {name}"] for name in Basis._fields))


def sweep(
    w: Float[Tensor, "n rows"], u: Float[Tensor, "n n"], scale: Float[Tensor, "n rows"], dtype: torch.dtype
) -> UInt8[Tensor, "n rows"]:
    """E2M1 codes of W^T (which is worked on in place), columns of W in order, each weight under a scale that is given;
    (H + damp)^-1 = U^T U."""
    n = len(w)
    codes = torch.empty(w.shape, dtype=torch.uint8)
    for a in range(0, n, BLOCK):
        b = min(a + BLOCK, n)
        errors = torch.empty_like(w[a:b])
        for i in range(a, b):
            column = torch.addmv(w[i], errors[: i - a].T, u[a:i, i], alpha=-1)
            value = snapped(under(column, scale[i]))
            codes[i] = codes_of(value)
            errors[i - a] = (column - served(value, scale[i], dtype)) / u[i, i]
        w[b:].addmm_(u[a:b, b:].T, errors, alpha=-1)
    return codes


@dataclass(frozen=True)
class MRGPTQ:
    """``format``: ``mxfp4`` or ``nvfp4``; ``rotate``: the size of Hadamard blocks, 16 to 128 (0: none);
    ``damp_percent`` is added to the diagonal of H as a share of its mean."""

    format: Literal["mxfp4", "nvfp4"] = "nvfp4"
    rotate: int = 16
    damp_percent: float = 0.01

    CARD: ClassVar[Card] = Card(
        name="mr_gptq",
        family="quantize",
        title="Bridging the Gap Between Promise and Performance for Microscaling FP4 Quantization",
        year=2025,
        where="arXiv 2509.23202",
        saves="bytes",
        needs="data",
        baseline="fp4",
        guarantee="usual",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        runs_on=("simulated",),
        departures="Simulated: no kernel of this CPU reads these formats, and a matrix is made dense to be multiplied. "
        "Weights only; activations stay in 16 bits. The rotation of the inputs is a node before the matrix and is run "
        "for each call, never folded into the layer before. The scale of NVFP4's matrix is that of its largest weight, "
        "not searched together with those of the groups.",
    )

    @property
    def group_size(self) -> int:
        """The inputs that share a scale."""
        return FORMATS[self.format].group

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.format, self.rotate, width)
        check_damp(self.damp_percent)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes and scales."""
        return stored(rows, width, self.format)

    def without_data(self) -> FP4:
        """The method for a table of which no input statistic exists: the nearest levels in the same format."""
        return FP4(self.format, self.rotate)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """``w`` on levels. Raises BadInput without ``site.gram``, Anomaly where it cannot be factorized."""
        self.check(w.shape[1])
        order, u = basis(site, self.rotate, self.damp_percent)
        read, back = rows_of(w.dense().detach(), self.rotate), order.argsort()
        scales = fp4_scales(read, split(w.shape), FORMATS[self.format], True, w.dtype)

        def part(index: Tensor) -> Tensor:
            scale = scales.read(index).repeat_interleave(self.group_size, 1)
            codes = sweep(read(index)[:, order].T.contiguous(), u, scale[:, order].T.contiguous(), w.dtype)
            return pack(codes[back].T.contiguous(), 4)

        packed = torch.cat(each(part, torch.split(torch.arange(w.shape[0]), CHUNK)))
        return turned(Codebook(packed, scales, "e2m1", w.dtype), self.rotate)
