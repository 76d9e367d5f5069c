"""Our grids in GGUF's own blocks of 32 inputs, value for value: the smallest block type that holds a matrix exactly.

A grid's levels are l = code - zero and its weights l * scale. With d a float16 and q an unsigned code,

    Q4_0  d (q - 8)     4.5 bits for each weight, levels -8 .. 7     2 and 3 bits, symmetric 4 bits
    Q4_1  d q + m       5.0                       q = code           4 bits, where m = -zero * scale is a float16
    Q5_0  d (q - 16)    5.5                       -16 .. 15          4 bits, any zero
    Q8_0  d q, q signed 8.5                       -128 .. 127        8 bits, symmetric

so nothing is rounded: d is our scale, which must be a number of float16 (a scale in bfloat16 is, unless it lies outside
float16's range). The k-quants, whose blocks are larger, are another matter: see ``trimtab.export.gguf.kquant``.
Format: the GGUF specification and ggml's block layouts (public documentation of ggml, 2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Int16, UInt8
from torch import Tensor

from trimtab.core.pack import pack, unpack
from trimtab.core.weight import ROWS, Quantized

BLOCK = 32
Kind = Literal["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q2_K", "Q3_K", "Q4_K"]
BYTES: dict[Kind, tuple[int, int]] = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2),
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q8_0": (32, 34),
    "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144),
}  # fmt: skip
"""Weights in a block, and its bytes."""
FLOATS: dict[torch.dtype, Kind] = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def exact16(x: Tensor) -> bool:
    """Whether every number of ``x`` is a number of float16."""
    return bool((x.half().double() == x.double()).all())


def kind_of(w: Quantized) -> Kind | None:
    """The smallest block type that holds the levels of ``w``; None where there is none. Scales and groups, which
    every type wants alike, are not looked at."""
    low, high = span(w)
    if low >= -8 and high <= 7:
        return "Q4_0"
    if w.bits == 4 and w.zero is not None and exact16(w.zero.double() * w.scale.double()):
        return "Q4_1"
    if low >= -16 and high <= 15:
        return "Q5_0"
    return "Q8_0" if low >= -128 and high <= 127 else None


def span(w: Quantized) -> tuple[int, int]:
    """The least and the greatest level; of a symmetric grid those that it can have."""
    if w.zero is None:
        half = 2 ** (w.bits - 1)
        return -half, half - 1
    found = [level.aminmax() for _, level, _ in _parts(w)]
    return int(min(one.min for one in found)), int(max(one.max for one in found))


def bytes_of(w: Quantized, kind: Kind) -> UInt8[Tensor, "out bytes"]:
    """The matrix in blocks of ``kind``, which must be one that holds it."""
    return torch.cat([_blocks(kind, *part).flatten(1) for part in _parts(w)])


def _parts(w: Quantized) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Codes and levels (rows, blocks, 32) and scales (rows, blocks), by parts of the rows."""
    count, width = w.shape
    times = w.group_size // BLOCK
    for start in range(0, count, ROWS):
        part = slice(start, start + ROWS)
        codes = unpack(w.codes[part], w.bits).to(torch.int16).unflatten(1, (width // w.group_size, -1))
        zero = 2 ** (w.bits - 1) if w.zero is None else w.zero[part].to(torch.int16)[..., None]
        shape = (len(codes), width // BLOCK, BLOCK)
        yield codes.reshape(shape), (codes - zero).reshape(shape), w.scale[part].repeat_interleave(times, 1)


def _blocks(
    kind: Kind,
    codes: Int16[Tensor, "rows blocks 32"],
    level: Int16[Tensor, "rows blocks 32"],
    scale: Float[Tensor, "rows blocks"],
) -> UInt8[Tensor, "rows blocks bytes"]:
    head = half(scale)
    if kind == "Q4_0":
        return torch.cat([head, nibbles(level + 8)], 2)
    if kind == "Q4_1":
        least = (level - codes)[..., 0].double() * scale.double()  # -zero * scale
        return torch.cat([head, half(least), nibbles(codes)], 2)
    if kind == "Q5_0":
        raised = (level + 16).to(torch.uint8)
        fifth = pack((raised >> 4).flatten(0, 1), 1).unflatten(0, raised.shape[:2])
        return torch.cat([head, fifth, nibbles(raised)], 2)
    return torch.cat([head, level.to(torch.int8).view(torch.uint8)], 2)


def half(x: Float[Tensor, "rows blocks"]) -> UInt8[Tensor, "rows blocks 2"]:
    """Each number as the two bytes of a float16."""
    return x.half()[..., None].contiguous().view(torch.uint8)


def nibbles(q: Tensor) -> UInt8[Tensor, "rows blocks 16"]:
    """Codes i and i + 16 of a block in one byte, the first in its low half."""
    low = q.to(torch.uint8) & 15
    return low[..., :16] | (low[..., 16:] << 4)
