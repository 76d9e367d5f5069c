"""Levels that are not evenly spaced: nearest codes, and the scales of NF4, MXFP4 and NVFP4. Pure functions.

    NF4     scale = max |w|
    MXFP4   scale = 2^(floor(log2 max |w|) - 2)                          (what is above 6 then takes 6)
    NVFP4   scale = c E4M3(max |w| / 6 c),    c = max |W| / (6 * 448)

over the weights of a group; W is the whole matrix. Scales are rounded to the form in which they are stored before any
code is computed, so that the error a method sees is the error that will be served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.codebook import Codebook, table
from trimtab.core.pack import pack
from trimtab.core.scales import Scales
from trimtab.core.threads import each
from trimtab.quantize.rotation import mixed

NUMBERS = 2**18
"""Weights worked on at once."""
LARGEST, LARGEST_E4M3 = 6.0, 448.0
"""Of E2M1 and of E4M3."""
BLOCK = 256
"""Scales of NF4 that share a coarse one."""

Read = Callable[[Tensor], Float[Tensor, "n in"]]
"""Rows of a matrix by index, in float32."""


@dataclass(frozen=True)
class Format:
    """A format of E2M1 weights: how many share a scale, the form of the scale, its lowest and highest byte, and how far
    from the byte of the largest weight a search looks."""

    group: int
    form: str
    bytes: tuple[int, int]
    steps: tuple[int, ...]


FORMATS: Mapping[str, Format] = {
    "mxfp4": Format(32, "e8m0", (0, 254), (0, 1, -1)),
    "nvfp4": Format(16, "e4m3", (1, 126), (0, *range(-8, 0), *range(1, 6))),
}
"""A step is an octave in ``mxfp4`` and an eighth of one in ``nvfp4``: 0.5 to 1.5 of the scale by the largest weight."""


def nearest(x: Float[Tensor, "*a"], levels: str) -> UInt8[Tensor, "*a"]:
    """The codes of the nearest levels."""
    if levels == "e2m1":
        return codes_of(snapped(x))
    level = table(levels)
    return torch.bucketize(x, (level[1:] + level[:-1]) / 2, out_int32=True).to(torch.uint8)


def snapped(x: Float[Tensor, "*a"]) -> Float[Tensor, "*a"]:
    """The nearest E2M1 levels. Of two that are as near the one with an even mantissa, as IEEE 754 rounds; the sign of a
    zero stays. Levels are 1/2 apart up to 2, 1 up to 4, then 2."""
    size = x.abs()
    apart = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return ((x / apart).round_() * apart).clamp_(-LARGEST, LARGEST)


def codes_of(value: Float[Tensor, "*a"]) -> UInt8[Tensor, "*a"]:
    """The codes of E2M1 levels: the sign is their highest bit."""
    size = value.abs()
    count = torch.where(size < 2, 2 * size, torch.where(size < 4, size + 2, size / 2 + 4))
    return (count + 8 * value.signbit()).to(torch.uint8)


def under(w: Float[Tensor, "*a"], scale: Float[Tensor, "*b"]) -> Float[Tensor, "*a"]:
    """Weights over their scales; 0 under a scale of 0."""
    return w / torch.where(scale == 0, torch.inf, scale)


def served(value: Float[Tensor, "*a"], scale: Float[Tensor, "*b"], dtype: torch.dtype) -> Float[Tensor, "*a"]:
    """What ``Codebook.dense`` will give for levels under their scales, in float32."""
    return (value * scale).to(dtype).float()


def largest(w: Float[Tensor, "rows in"], group: int) -> Float[Tensor, "rows groups"]:
    """max |w| of each group."""
    return w.unflatten(1, (-1, group)).abs().amax(2)


def doubled(scale: Float[Tensor, "rows groups"]) -> Scales:
    """Scales in 8 bits: what is left of them without their mean, over the largest of 256 of them, as E4M3."""
    mean = scale.double().mean().float()
    left = scale.flatten() - mean
    grouped = F.pad(left, (0, -len(left) % BLOCK)).view(-1, BLOCK)
    coarse = grouped.abs().amax(1) / LARGEST_E4M3
    stored = e4m3(grouped / torch.where(coarse == 0, 1.0, coarse)[:, None])
    return Scales(stored.flatten()[: len(left)].view(scale.shape), "e4m3", coarse, mean[None], BLOCK)


def e4m3(x: Float[Tensor, "*a"]) -> UInt8[Tensor, "*a"]:
    """The bytes of the nearest 8-bit floats, at most 448 in size."""
    return x.clamp(-LARGEST_E4M3, LARGEST_E4M3).to(torch.float8_e4m3fn).view(torch.uint8)


def fp4_scales(read: Read, parts: list[Tensor], how: Format, search: bool, dtype: torch.dtype) -> Scales:
    """The scales of a matrix in a format; ``search``: of the bytes within reach that of least squared error."""
    top = torch.cat(each(lambda index: largest(read(index), how.group), parts))
    coarse = None
    if how.form == "e8m0":
        stored = (torch.frexp(top)[1] + (127 - 1 - 2)).clamp(*how.bytes).to(torch.uint8)
        stored[~top.isfinite()] = 255  # NaN, where a power of two would hide one
    else:
        most = top.max() / (LARGEST * LARGEST_E4M3)
        coarse = torch.where(most == 0, 1.0, most)[None]
        stored = e4m3(top / LARGEST / coarse)

    def part(index: Tensor) -> Tensor:
        return searched(read(index), Scales(stored[index], how.form, coarse, None, stored.numel()), how, dtype)

    if search:
        stored = torch.cat(each(part, parts))
    return Scales(stored, how.form, coarse, None, 0 if coarse is None else stored.numel())


def searched(w: Float[Tensor, "n in"], scales: Scales, how: Format, dtype: torch.dtype) -> UInt8[Tensor, "n groups"]:
    """For each group the byte of least squared error, ``how.steps`` from that in ``scales``; on a tie the first."""
    grouped, start = w.unflatten(1, (-1, how.group)), scales.stored.int()
    best, found = torch.full(start.shape, torch.inf), start
    for step in how.steps:
        tried = (start + step).clamp(*how.bytes)
        scale = scales._replace(stored=tried.to(torch.uint8)).read(slice(None))[..., None]
        lost = (served(snapped(under(grouped, scale)), scale, dtype) - grouped).square_().sum(2)
        found, best = torch.where(lost < best, tried, found), torch.minimum(lost, best)
    return found.to(torch.uint8)


def rows_of(w: Float[Tensor, "out in"], rotate: int) -> Read:
    """Reads rows of ``w``, rotated in blocks of ``rotate`` (0: as they are)."""
    return lambda index: mixed(w[index], rotate).float()


def split(shape: tuple[int, int]) -> list[Tensor]:
    """The rows of a matrix in parts of at most ``NUMBERS`` weights."""
    return list(torch.split(torch.arange(shape[0]), max(1, NUMBERS // shape[1])))


def codebook(read: Read, parts: list[Tensor], scales: Scales, levels: str, dtype: torch.dtype) -> Codebook:
    """The matrix with every weight at its nearest level."""

    def part(index: Tensor) -> Tensor:
        scale = scales.read(index)
        grouped = read(index).unflatten(1, (scale.shape[1], -1))
        return pack(nearest(under(grouped, scale[..., None]), levels).flatten(1), 4)

    return Codebook(torch.cat(each(part, parts)), scales, levels, dtype)
