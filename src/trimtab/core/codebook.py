"""A matrix whose weights lie on a few uneven levels: NF4, and the 4-bit float of MXFP4 and NVFP4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.pack import pack
from trimtab.core.scales import VALUES, Scales, coarse_count
from trimtab.core.weight import ROWS, Weight, dtype_of, name_of, rows

LEVELS: Mapping[str, tuple[float, ...]] = {
    "nf4": (
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
        0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ),
    "e2m1": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0),
}  # fmt: skip
"""What each 4-bit code stands for. ``nf4``: quantiles of N(0, 1) over their largest, exact 0 among them (Dettmers et
al. 2023, arXiv 2305.14314, appendix E). ``e2m1``: sign, 2 bits of exponent, 1 of mantissa (OCP Microscaling 1.0)."""


def table(levels: str) -> Float[Tensor, " levels"]:
    """The levels by code, float32. Raises ValueError for a name that is not in ``LEVELS``."""
    if levels not in LEVELS:
        raise ValueError(f"levels: got {levels!r}; accepted: {', '.join(LEVELS)}")
    return torch.tensor(LEVELS[levels])


@final
class Codebook(Weight):
    """w = level[code] * scale, a scale for each row and group of inputs; the product is taken in float32 and rounded
    once, to ``dtype``.

    ``codes`` (out, in / 2) uint8, two to a byte, the first in the low half; scales as ``Scales`` says.
    """

    codes: Tensor
    scale: Tensor
    coarse: Tensor | None
    mean: Tensor | None

    def __init__(self, codes: UInt8[Tensor, "out bytes"], scales: Scales, levels: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.levels, self.form, self.block, self._dtype = levels, scales.form, scales.block, dtype
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scales.stored)
        self.register_buffer("coarse", scales.coarse)
        self.register_buffer("mean", scales.mean)

    @classmethod
    def of(cls, codes: UInt8[Tensor, "out in"], scales: Scales, levels: str, dtype: torch.dtype) -> Codebook:
        """From codes one to a byte. Raises ValueError where the row does not fill whole bytes."""
        return cls(pack(codes, 4), scales, levels, dtype)

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Codebook:
        (high, width), form, block = spec["shape"], spec["scale"], spec["block"]
        table(spec["levels"])
        if form not in VALUES:
            raise ValueError(f"scale: got {form!r}; accepted: {', '.join(VALUES)}")
        groups = width // spec["group_size"]
        stored = torch.empty(high, groups, dtype=torch.float32 if form == "float32" else torch.uint8)
        coarse = torch.empty(coarse_count(high * groups, block), dtype=torch.float32) if block else None
        scales = Scales(stored, form, coarse, torch.empty(1, dtype=torch.float32) if spec["mean"] else None, block)
        codes = torch.empty(high, width // 2, dtype=torch.uint8)
        return cls(codes, scales, spec["levels"], dtype_of(spec["dtype"]))

    @property
    def scales(self) -> Scales:
        """The scales as they are stored."""
        return Scales(self.scale, self.form, self.coarse, self.mean, self.block)

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1] * 2

    @property
    def group_size(self) -> int:
        """The inputs that share a scale."""
        return self.shape[1] // self.scale.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def dense(self) -> Float[Tensor, "out in"]:
        """In parts of rows, as ``Quantized``."""
        found = torch.empty(self.shape, dtype=self.dtype, device=self.codes.device)
        for start in range(0, len(found), ROWS):
            part = slice(start, start + ROWS)
            found[part] = _values(self, part)
        return found

    def spec(self) -> dict[str, Any]:
        return {
            "kind": "codebook", "version": self.VERSION, "shape": list(self.shape), "dtype": name_of(self.dtype),
            "levels": self.levels, "group_size": self.group_size, "scale": self.form, "block": self.block,
            "mean": self.mean is not None,
        }  # fmt: skip


def _values(w: Codebook, index: slice | Integer[Tensor, " n"]) -> Float[Tensor, "n in"]:
    """Some rows. A byte is looked up at once: it holds two codes."""
    level = table(w.levels).to(w.codes.device)
    pairs = torch.stack([level.repeat(16), level.repeat_interleave(16)], 1)
    scale = w.scales.read(index)
    values = F.embedding(w.codes[index].int(), pairs).flatten(-2).unflatten(-1, (scale.shape[1], -1))
    return (values * scale[..., None]).flatten(-2).to(w.dtype)


@rows.register
def _(w: Codebook, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    return _values(w, index.flatten()).view(*index.shape, -1)
