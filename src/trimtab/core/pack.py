"""Integer codes of 2, 3, 4 or 8 bits, and masks of 1, in bytes, without a wasted bit."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor

BITS = (2, 3, 4, 8)


def period(bits: int) -> int:
    """How many codes fill whole bytes: 8, 4, 8, 2 and 1 for 1 (masks), 2, 3, 4 and 8 bits."""
    return {1: 8, 2: 4, 3: 8, 4: 2, 8: 1}[bits]


def pack(codes: UInt8[Tensor, "out in"], bits: int) -> UInt8[Tensor, "out bytes"]:
    """Codes below 2**bits as a little-endian bit stream per row: code i holds bits [i * bits, (i + 1) * bits).

    Raises ValueError where ``in`` codes do not fill whole bytes.
    """
    count = period(bits)
    if codes.shape[1] % count:
        raise ValueError(f"in: got {codes.shape[1]} codes of {bits} bits; a multiple of {count} fills whole bytes")
    lanes = codes.view(codes.shape[0], -1, count).to(torch.int32)
    word = sum(lanes[..., i] << (bits * i) for i in range(count))
    assert isinstance(word, Tensor)
    width = count * bits // 8
    return torch.stack([(word >> (8 * i)) & 255 for i in range(width)], -1).to(torch.uint8).flatten(1)


def unpack(packed: UInt8[Tensor, "*rows bytes"], bits: int) -> UInt8[Tensor, "*rows in"]:
    """The inverse of ``pack``, for any leading axes."""
    if bits == 8:
        return packed
    count = period(bits)
    width = count * bits // 8
    if bits == 4:
        wide = packed.contiguous().to(torch.int16)  # both nibbles of a byte go to the two bytes of an int16
        return (wide << 4).bitwise_or_(wide).bitwise_and_(0x0F0F).view(torch.uint8)
    octets = packed.unflatten(-1, (-1, width)).to(torch.int32)
    word = sum(octets[..., i] << (8 * i) for i in range(width))
    assert isinstance(word, Tensor)
    return torch.stack([(word >> (bits * i)) & (2**bits - 1) for i in range(count)], -1).to(torch.uint8).flatten(-2)
