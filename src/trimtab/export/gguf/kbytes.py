"""The bytes of k-quants, in the order of ggml's blocks (block_q2_K, block_q3_K, block_q4_K; public, 2023)."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor

from trimtab.core.weight import ROWS
from trimtab.export.gguf.blocks import half
from trimtab.export.gguf.kquant import KQuant


def bytes_of(w: KQuant) -> UInt8[Tensor, "out bytes"]:
    """Of each 256 weights, one after another:

    Q4_K  d, dmin; 12 bytes of sc and m; 128 of q, sub-blocks 2i and 2i + 1 in the halves of 32 bytes
    Q3_K  32 of the highest bits of q + 4; 64 of the lower two; 12 of sc + 32; d
    Q2_K  16 of sc and m, halves of a byte; 64 of q; d, dmin
    """
    layout = {"Q4_K": _q4, "Q3_K": _q3, "Q2_K": _q2}[w.grid.kind]
    parts = [slice(start, start + ROWS) for start in range(0, w.shape[0], ROWS)]
    return torch.cat([layout(w, part).flatten(1) for part in parts])


def _q4(w: KQuant, rows: slice) -> UInt8[Tensor, "rows blocks 144"]:
    assert w.least is not None
    q = w.raised(rows)
    sc, m = w.scale[1][rows].to(torch.uint8), w.least[1][rows].to(torch.uint8)
    low, high = slice(0, 4), slice(4, 8)  # the last four give their upper two bits to the bytes of the first four
    sizes = [one[..., low] | (one[..., high] >> 4) << 6 for one in (sc, m)]
    last = (sc[..., high] & 15) | (m[..., high] & 15) << 4
    codes = (q[:, :, 0::2] | q[:, :, 1::2] << 4).flatten(2)
    return torch.cat([half(w.scale[0][rows]), half(w.least[0][rows]), *sizes, last, codes], 2)


def _q3(w: KQuant, rows: slice) -> UInt8[Tensor, "rows blocks 110"]:
    raised = w.raised(rows)
    top = (raised.flatten(2) >> 2).unflatten(2, (8, 32))  # bit i of byte j is of weight 32 i + j
    sc = (w.scale[1][rows] + 32).to(torch.uint8)
    low = (sc[..., :8] & 15) | (sc[..., 8:] & 15) << 4
    high = _together((sc >> 4).unflatten(2, (4, 4)), 2)
    return torch.cat([_together(top, 1), _twos(raised & 3), low, high, half(w.scale[0][rows])], 2)


def _q2(w: KQuant, rows: slice) -> UInt8[Tensor, "rows blocks 84"]:
    assert w.least is not None
    sizes = w.scale[1][rows].to(torch.uint8) | w.least[1][rows].to(torch.uint8) << 4
    return torch.cat([sizes, _twos(w.raised(rows)), half(w.scale[0][rows]), half(w.least[0][rows])], 2)


def _twos(q: UInt8[Tensor, "rows blocks subs sub"]) -> UInt8[Tensor, "rows blocks 64"]:
    """Of 128 weights byte j holds those at j, 32 + j, 64 + j and 96 + j."""
    return _together(q.flatten(2).unflatten(2, (2, 4, 32)), 2).flatten(2)


def _together(q: UInt8[Tensor, "*lead parts width"], bits: int) -> UInt8[Tensor, "*lead width"]:
    """Part i at the bits from i * bits on."""
    made = torch.zeros_like(q[..., 0, :])
    for place, part in enumerate(q.unbind(-2)):
        made |= part << bits * place
    return made
