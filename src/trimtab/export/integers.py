"""Integer codes in the containers that graph formats have: four bits or eight, two to a byte, the first one low."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.core.pack import unpack
from trimtab.core.weight import Quantized


class Codes(NamedTuple):
    """``codes`` (out, in) and ``zero`` (out, groups), one to a byte; w = (codes - zero) * scale. ``bits`` of the
    container: a code of 2 or 3 bits is a number below 16 like any other, and fills four. Without ``zero`` the codes are
    signed, in two's complement of ``bits``."""

    codes: NDArray[np.uint8]
    zero: NDArray[np.uint8] | None
    scale: Tensor
    bits: int


def codes_of(w: Quantized) -> Codes:
    """The same numbers, unpacked: signed on a symmetric grid, else with their zeros."""
    codes, bits = unpack(w.codes, w.bits).numpy(), container(w.bits)
    if w.zero is not None:
        return Codes(codes, w.zero.numpy(), w.scale.detach(), bits)
    signed = (codes - half(w)).astype(np.uint8) & np.uint8(2**bits - 1)
    return Codes(signed, None, w.scale.detach(), bits)


def half(w: Quantized) -> int:
    """The zero of a symmetric grid."""
    return int(2 ** (w.bits - 1))


def zeros_of(w: Quantized) -> NDArray[np.uint8]:
    """(out, groups), those of a symmetric grid too."""
    zero = torch.full_like(w.scale, half(w), dtype=torch.uint8) if w.zero is None else w.zero
    return zero.numpy()


def container(bits: int) -> int:
    """Bits that one code takes in the file."""
    return 8 if bits == 8 else 4


def packed(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The bytes of ``values`` in their order, as one flat array; a last half byte is filled up with 0."""
    flat = values.reshape(-1)
    if bits == 8:
        return flat
    even = np.append(flat, np.uint8(0)) if len(flat) % 2 else flat
    found: NDArray[np.uint8] = even[0::2] | (even[1::2] << np.uint8(4))
    return found


def narrow(value: Tensor) -> torch.dtype:
    """The smallest of bfloat16, float16 and float32 that holds every number of ``value`` as it is."""
    for dtype in (torch.bfloat16, torch.float16):
        if value.dtype == dtype or torch.equal(value.to(dtype).to(value.dtype), value):
            return dtype
    return torch.float32
