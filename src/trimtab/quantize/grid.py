"""Uniform grids per row and group: which scale and zero, codes from values, values from codes. Pure functions.

w = (code - zero) * scale with 0 <= code, zero < 2**bits. ``scale`` is rounded to the dtype in which it is stored
before any code is computed, and ``decode`` rounds its product as the stored weight does, so that the error a method
sees is the error that will be served.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.weight import check_grid

STEP = 1 / 40
"""Distance between the shrunken ranges that the clip search tries."""

PIECE = 2**17
"""Numbers that the clip search holds at once: several ranges of a small group, one of a large group."""


def span(group_size: int, width: int) -> int:
    """The inputs that share a scale: ``group_size``, or the whole row where it is -1."""
    return width if group_size == -1 else group_size


def check(bits: int, group_size: int, width: int) -> None:
    """Raises ValueError, with the nearest legal value, where a row of ``width`` has no such grid (-1: whole row)."""
    check_grid(bits, span(group_size, width), width)


def stored(rows: int, width: int, bits: int, group_size: int, symmetric: bool) -> int:
    """Bits of a matrix on such a grid: codes, 16 for each scale, 8 for each zero."""
    return rows * (width * bits + width // span(group_size, width) * (16 if symmetric else 24))


def shrinks(bits: int) -> Float[Tensor, " n"]:
    """Shares of the full range for the clip search to try, widest first: the fewer bits, the further down."""
    lowest = {2: 0.3, 3: 0.3, 4: 0.4, 8: 0.85}[bits]
    return 1 - torch.arange(round((1 - lowest) / STEP) + 1) * STEP


def shares(bits: int, clip: bool) -> Float[Tensor, " n"]:
    """``shrinks`` where ranges are searched, else the full range alone."""
    return shrinks(bits) if clip else torch.ones(1)


def span_grid(
    low: Float[Tensor, "*n rows"], high: Float[Tensor, "*n rows"], bits: int, symmetric: bool, dtype: torch.dtype
) -> tuple[Float[Tensor, "*n rows"], Float[Tensor, "*n rows"]]:
    """Scale and zero, both float32, of the grid from ``low`` <= 0 to ``high`` >= 0.

    Asymmetric: scale = (high - low) / (2**bits - 1), zero = round(-low / scale). Symmetric: zero = 2**(bits - 1) =: h
    and scale = max(-low / h, high / (h - 1/2)), so that nothing is more than half a step off the grid. Where the range
    is empty (or below what ``dtype`` holds) the scale is 1: such values are 0.
    """
    top = 2**bits - 1
    half = 2 ** (bits - 1)
    scale = torch.maximum(-low / half, high / (half - 0.5)) if symmetric else (high - low) / top
    scale = scale.to(dtype).float()
    scale = torch.where(scale == 0, 1.0, scale)
    zero = torch.full_like(scale, half) if symmetric else (-low / scale).round().clamp(0, top)
    return scale, zero


def encode(
    w: Float[Tensor, "*a"], scale: Float[Tensor, "*b"], zero: Float[Tensor, "*b"], bits: int
) -> Float[Tensor, "*c"]:
    """The nearest codes, still as floats; values beyond the grid take its ends. Axes are broadcast, rows the last."""
    return ((w / scale).round_() + zero).clamp_(0, 2**bits - 1)


def decode(
    codes: Float[Tensor, "*a"], scale: Float[Tensor, "*b"], zero: Float[Tensor, "*b"], dtype: torch.dtype
) -> Float[Tensor, "*a"]:
    """What ``Quantized.dense`` will give for ``codes``, in float32."""
    value = (codes - zero).mul_(scale)
    return value if dtype == torch.float32 else value.to(dtype).float()


def fit_grid(
    w: Float[Tensor, "group rows"],
    weight: Float[Tensor, " group"],
    bits: int,
    symmetric: bool,
    clip: bool,
    dtype: torch.dtype,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Per row, the grid of least sum_i weight_i (decode(encode(w_i)) - w_i)^2 among shrunken min-max ranges.

    ``weight`` is one for plain squared error, or the diagonal of the Hessian. On a tie the wider range stays.
    """
    low, high = w.amin(0).clamp(max=0), w.amax(0).clamp(min=0)
    scale, zero = span_grid(low, high, bits, symmetric, dtype)
    if not clip:
        return scale, zero
    best = torch.full_like(low, torch.inf)
    for shrink in torch.split(shrinks(bits), max(1, PIECE // w.numel())):
        s, z = span_grid(low * shrink[:, None], high * shrink[:, None], bits, symmetric, dtype)
        tried = decode(encode(w, s[:, None], z[:, None], bits), s[:, None], z[:, None], dtype)
        loss, at = (weight @ (tried - w).square_()).min(0)
        better = loss < best
        best = torch.where(better, loss, best)
        scale = torch.where(better, s.gather(0, at[None])[0], scale)
        zero = torch.where(better, z.gather(0, at[None])[0], zero)
    return scale, zero
