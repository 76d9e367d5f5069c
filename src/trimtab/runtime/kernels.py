"""Kernels for Quantized weights on the CPU: torch's packed ones for few rows, dequantize and multiply for many.

Decoding reads every weight for one row, so what counts is bytes, and packed codes are read as they are. With many rows
the packed kernels, which do not use the CPU's matrix units, fall behind; there the matrix is made anew for the call and
multiplied as any other. The packed kernels are vectorized for bfloat16 only (in float32 and float16 they are 13 to 200
times slower than a plain product), so few rows are computed in bfloat16 whatever the model's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.pack import unpack
from trimtab.core.weight import Quantized

INT4_ROWS, INT8_ROWS = 48, 12
"""Up to how many rows the packed kernel is used. Measured for 512 x 192 to 4096 x 4096 on one AMX core (torch 2.13):
dequantizing takes about 1 ns (4 bits) or 0.2 ns (8 bits) a weight whatever the number of rows, a row through the packed
kernel 0.034 ns a weight, a row through a bfloat16 product 0.002 to 0.01 ns, so the two ways cross near 40 rows (4 bits)
and 10 (8 bits). Fixed here, since timings never decide what is computed."""
INT4_GROUPS = (256, 128, 64, 32)
"""What the packed kernel takes, the fewest scales first; a multiple of one (a whole row) repeats its scales."""
ALL = slice(None)
WEIGHTS = 1 << 22
"""Made dense at once: 8 MB in bfloat16."""
PACK_ROWS = 4096
"""Rows packed at once (the packer wants an int32 for each code); a multiple of its blocks of 64 rows."""


def dequantize4(w: Quantized, dtype: torch.dtype, part: slice = ALL) -> Float[Tensor, "part in"]:
    """``w.dense()[part]`` of a 4-bit weight, multiplied in ``dtype``: the same numbers where that is the scale's."""
    steps = unpack(w.codes[part], 4).view(torch.int8).unflatten(1, (w.scale.shape[1], -1))
    steps.sub_(8 if w.zero is None else w.zero[part].view(torch.int8)[..., None])
    return torch.mul(steps, w.scale[part].to(dtype)[..., None]).flatten(1)


def many_rows(
    x: Float[Tensor, "n in"], shape: tuple[int, int], dense: Callable[[slice], Float[Tensor, "part in"]]
) -> Float[Tensor, "n out"]:
    """x @ W.T, W made ``dense`` in parts of at most ``WEIGHTS``: they stay in the cache, and a vocabulary's head needs
    no dense copy of itself."""
    out, width = shape
    step = max(1, WEIGHTS // width)
    if out <= step:
        return F.linear(x, dense(ALL))
    y = x.new_empty(len(x), out)
    for start in range(0, out, step):
        y[:, start : start + step] = F.linear(x, dense(slice(start, start + step)))
    return y


def kernel_group(group_size: int) -> int | None:
    """The largest group of the packed kernel for 4 bits that divides ``group_size``."""
    return next((group for group in INT4_GROUPS if group_size % group == 0), None)


def pack4(w: Quantized, group_size: int) -> tuple[Tensor, Tensor]:
    """The codes in the kernel's layout, and (groups, out, 2) of scale and offset: w = (code - 8) * scale + offset."""
    parts = [
        torch.ops.aten._convert_weight_to_int4pack_for_cpu(unpack(rows, 4).to(torch.int32), 1)
        for rows in torch.split(w.codes, PACK_ROWS)
    ]
    scale = w.scale.float()
    offset = torch.zeros_like(scale) if w.zero is None else (8 - w.zero.float()) * scale
    scales = torch.stack([scale, offset], -1).repeat_interleave(w.group_size // group_size, 1)
    return torch.cat(parts), scales.transpose(0, 1).contiguous().bfloat16()


@dataclass(frozen=True)
class Packed4:
    """x @ W.T for 4-bit codes. Without ``w`` (released) any number of rows goes through the packed kernel."""

    w: Quantized | None
    packed: Tensor
    scales: Tensor
    group_size: int
    dtype: torch.dtype

    @classmethod
    def of(cls, w: Quantized, dtype: torch.dtype, release: bool) -> Packed4:
        """Pack ``w``; ``dtype`` is what many rows of bfloat16 are computed in."""
        group = kernel_group(w.group_size)
        assert group is not None
        return cls(None if release else w, *pack4(w, group), group, dtype)

    def __call__(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        flat = x.reshape(-1, x.shape[-1])
        if self.w is not None and len(flat) > INT4_ROWS:
            dtype = self.dtype if x.dtype == torch.bfloat16 else x.dtype
            y = many_rows(flat.to(dtype), self.w.shape, partial(dequantize4, self.w, dtype))
        elif len(flat):
            rows = flat.bfloat16().contiguous()
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, self.group_size, self.scales)
        else:
            y = flat.new_zeros(0, self.scales.shape[1])
        return shaped(y, x, bias)


@dataclass(frozen=True)
class Packed8:
    """x @ W.T for 8-bit codes with one scale for each row of W and its zero at 128: (x @ codes.T) * scale."""

    codes: Tensor
    scale: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, w: Quantized, dtype: torch.dtype, release: bool) -> Packed8:
        """Signed codes of ``w``, which are all that any number of rows needs."""
        return cls((w.codes ^ 128).view(torch.int8), w.scale[:, 0].clone(), dtype)

    def __call__(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        flat = x.reshape(-1, x.shape[-1])
        if 0 < len(flat) <= INT8_ROWS:
            rows = flat.bfloat16().contiguous()
            y = torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scale.bfloat16())
        else:
            dtype = self.dtype if x.dtype == torch.bfloat16 else x.dtype
            out, width = self.codes.shape
            y = many_rows(flat.to(dtype), (out, width), lambda part: self.codes[part].to(dtype))
            y.mul_(self.scale.to(dtype))
        return shaped(y, x, bias)


def shaped(y: Float[Tensor, "n out"], x: Float[Tensor, "*b in"], bias: Tensor | None) -> Float[Tensor, "*b out"]:
    """A kernel's own ``y`` (written to) with the bias, in the dtype and leading axes of ``x``."""
    y = y.to(x.dtype)
    return (y if bias is None else y.add_(bias)).view(*x.shape[:-1], y.shape[1])


def unfit(w: Quantized, capability: str) -> str | None:
    """Why ``w`` has no packed kernel on a CPU of torch's ``capability``, or None where it has one.

    The kernel for int8 reads beyond its rows, and answers with garbage, where 16 does not divide them.
    """
    out, width = w.shape
    if w.codes.device.type != "cpu":
        return f"on {w.codes.device.type}: the packed kernels are for the CPU"
    if capability not in ("AVX2", "AVX512"):
        return f"CPU capability {capability}: torch's packed kernels are vectorized for AVX2 and AVX512 only"
    if w.bits == 4:
        if kernel_group(w.group_size) is None:
            return f"group_size {w.group_size}: int4 takes multiples of {min(INT4_GROUPS)}"
        return f"{out} rows: int4 takes multiples of 16" if out % 16 else None
    if w.bits == 8:
        if w.zero is not None:
            return "asymmetric: int8 takes symmetric grids"
        if w.group_size != width:
            return f"group_size {w.group_size}: int8 takes one scale for each row (group_size -1)"
        return f"rows of {width}: int8 takes multiples of 16" if width % 16 else None
    return f"{w.bits} bits: there are packed kernels for 4 and 8"
