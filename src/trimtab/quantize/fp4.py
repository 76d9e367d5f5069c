"""MXFP4 and NVFP4: each weight takes the nearest 4-bit float under its group's scale. No data, no error feedback.

    w ~ level[code] * scale        level: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives (E2M1)

    mxfp4   32 weights share 2^e, 8 bits of exponent: 4.25 bits for each weight
    nvfp4   16 weights share an 8-bit float E4M3, the matrix one float32: 4.5 bits for each weight

With ``rotate`` = k every k neighbouring inputs are mixed by a Hadamard matrix H before, W ~ Q(W H) H: weights of long
tails become nearly normal. That helps MXFP4, whose scale is coarse, and harms NVFP4 a little.

Source: OCP Microscaling Formats (MX) 1.0, 2023, and Rouhani et al., arXiv 2310.10537; NVFP4: NVIDIA, arXiv 2509.25149;
what rotation does to either: Egiazarian et al. 2025, arXiv 2509.23202. It is what ``mr_gptq`` must beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trimtab.core.card import Card
from trimtab.core.fit import Site
from trimtab.core.weight import Weight
from trimtab.quantize.levels import FORMATS, codebook, fp4_scales, rows_of, split
from trimtab.quantize.rotation import check_rotation, turned


def check(format: str, rotate: int, width: int) -> None:
    """Raises ValueError, with the nearest legal value, where a row of ``width`` has no such groups or blocks."""
    group = FORMATS[format].group
    if width % group:
        other = next((name for name, how in FORMATS.items() if width % how.group == 0), None)
        hint = f"{other}, whose groups do" if other else "no 4-bit float format; put the layer under ignore"
        raise ValueError(f"format: got {format} for a row of {width}, which its groups of {group} do not divide; "
                         f"accepted there: {hint}")  # fmt: skip
    check_rotation(rotate, width)


def stored(rows: int, width: int, format: str) -> int:
    """Bits of a matrix of that shape: codes, scales, and the one number of NVFP4. Rotation stores nothing."""
    return rows * (4 * width + 8 * (width // FORMATS[format].group)) + (32 if format == "nvfp4" else 0)


@dataclass(frozen=True)
class FP4:
    """``format``: ``mxfp4`` or ``nvfp4``; ``rotate``: the size of Hadamard blocks, 16 to 128 (0: none); ``clip``
    searches each group's scale by squared error, else it follows from the largest weight."""

    format: Literal["mxfp4", "nvfp4"] = "nvfp4"
    rotate: int = 0
    clip: bool = True

    CARD: ClassVar[Card] = Card(
        name="fp4",
        family="quantize",
        title="Microscaling Data Formats for Deep Learning",
        year=2023,
        where="arXiv 2310.10537",
        saves="bytes",
        establishes=("on_grid",),
        preserves=("tokens_kept", "cache_kept"),
        runs_on=("simulated",),
        departures="Simulated: no kernel of this CPU reads these formats, and a matrix is made dense to be multiplied. "
        "Weights only; activations stay in 16 bits. The scale of a group is searched by squared error unless clip is "
        "off.",
    )

    @property
    def group_size(self) -> int:
        """The inputs that share a scale."""
        return FORMATS[self.format].group

    def check(self, width: int, rows: int | None = None) -> None:
        """Raises ValueError, with the nearest legal value, where the knobs do not fit a row of ``width``."""
        check(self.format, self.rotate, width)

    def stored(self, rows: int, width: int, before: int) -> int:
        """Bits of a matrix of that shape: codes and scales."""
        return stored(rows, width, self.format)

    def without_data(self) -> FP4:
        """The method for a table of which no input statistic exists: itself."""
        return self

    def __call__(self, w: Weight, site: Site) -> Weight:
        """The nearest levels of ``w``; ``site`` is not looked at."""
        self.check(w.shape[1])
        read, parts = rows_of(w.dense().detach(), self.rotate), split(w.shape)
        scales = fp4_scales(read, parts, FORMATS[self.format], self.clip, w.dtype)
        return turned(codebook(read, parts, scales, "e2m1", w.dtype), self.rotate)
