"""A linear map as an expression: leaves hold tensors, every node can be run, made dense, described and rebuilt.

The nodes here are the readable reference; ``trimtab.runtime`` swaps in kernels that are compared with them. A node
class is final; what varies over nodes without belonging to them is an open function (``bits``, ``rows``, ``times``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import singledispatch
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.core.pack import BITS, pack, period, unpack

ROWS = 4096
"""Rows made dense at once."""


class Weight(nn.Module, ABC):
    """A map from ``in`` to ``out`` numbers: ``forward(x) == x @ dense().T``. ``VERSION`` of the form that is stored;
    ``OLDER`` versions are read, too."""

    VERSION: ClassVar[int] = 1
    OLDER: ClassVar[tuple[int, ...]] = ()

    @classmethod
    @abstractmethod
    def empty(cls, spec: Mapping[str, Any]) -> Weight:
        """A node of ``spec`` whose tensors have no values yet, on the default device."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(out, in)."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What ``dense`` returns."""

    @abstractmethod
    def dense(self) -> Float[Tensor, "out in"]:
        """The matrix itself, made anew where it is not stored as such."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """``{"kind", "version", ...}``: with the state_dict, all that ``build`` needs."""

    def forward(self, x: Float[Tensor, "*b in"], bias: Float[Tensor, " out"] | None = None) -> Float[Tensor, "*b out"]:
        """x @ dense().T (+ bias) in x's dtype."""
        return F.linear(x, self.dense().to(x.dtype), bias)


@final
class Dense(Weight):
    """A matrix stored as it is."""

    def __init__(self, value: Float[Tensor, "out in"]) -> None:
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)

    @property
    def shape(self) -> tuple[int, int]:
        return self.value.shape[0], self.value.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Dense:
        rows, width = spec["shape"]
        return cls(torch.empty(rows, width, dtype=dtype_of(spec["dtype"])))

    def dense(self) -> Float[Tensor, "out in"]:
        return self.value

    def spec(self) -> dict[str, Any]:
        return dense_spec(self.shape, self.dtype)


def dense_spec(shape: tuple[int, int], dtype: torch.dtype) -> dict[str, Any]:
    """The description of a matrix stored as it is."""
    return {"kind": "dense", "version": Dense.VERSION, "shape": list(shape), "dtype": name_of(dtype)}


@final
class Quantized(Weight):
    """Integer codes on a grid per row and group of ``group_size`` inputs: w = (code - zero) * scale.

    ``codes`` (out, in * bits / 8) packed; ``scale`` (out, in / group_size) in the checkpoint's dtype, the product is
    taken in float32; ``zero`` (out, in / group_size) uint8, or None for the symmetric grid, whose zero is 2**(bits-1).
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None

    def __init__(
        self,
        codes: UInt8[Tensor, "out bytes"],
        scale: Float[Tensor, "out groups"],
        zero: UInt8[Tensor, "out groups"] | None,
        bits: int,
        group_size: int,
    ) -> None:
        super().__init__()
        self.bits, self.group_size = bits, group_size
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)

    @classmethod
    def of(
        cls,
        codes: UInt8[Tensor, "out in"],
        scale: Float[Tensor, "out groups"],
        zero: UInt8[Tensor, "out groups"] | None,
        bits: int,
    ) -> Quantized:
        """From codes one to a byte. Raises ValueError where the row does not fill whole bytes."""
        return cls(pack(codes, bits), scale, zero, bits, codes.shape[1] // scale.shape[1])

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Quantized:
        (rows, width), bits = spec["shape"], spec["bits"]
        groups = width // spec["group_size"]
        zero = None if spec["symmetric"] else torch.empty(rows, groups, dtype=torch.uint8)
        codes = torch.empty(rows, width * bits // 8, dtype=torch.uint8)
        scale = torch.empty(rows, groups, dtype=dtype_of(spec["dtype"]))
        return cls(codes, scale, zero, bits, spec["group_size"])

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1] * 8 // self.bits

    @property
    def dtype(self) -> torch.dtype:
        return self.scale.dtype

    def dense(self) -> Float[Tensor, "out in"]:
        """In parts of rows: the float32 steps on the way would be four times what an embedding takes in 16 bits."""
        found = torch.empty(self.shape, dtype=self.dtype, device=self.codes.device)
        for start in range(0, len(found), ROWS):
            part = slice(start, start + ROWS)
            zero = None if self.zero is None else self.zero[part]
            found[part] = _values(self.codes[part], self.scale[part], zero, self.bits)
        return found

    def spec(self) -> dict[str, Any]:
        return {
            "kind": "quantized", "version": self.VERSION, "shape": list(self.shape), "dtype": name_of(self.dtype),
            "bits": self.bits, "group_size": self.group_size, "symmetric": self.zero is None,
        }  # fmt: skip


def _values(
    codes: UInt8[Tensor, "rows bytes"],
    scale: Float[Tensor, "rows groups"],
    zero: UInt8[Tensor, "rows groups"] | None,
    bits: int,
) -> Float[Tensor, "rows in"]:
    grouped = unpack(codes, bits).unflatten(-1, (scale.shape[-1], -1)).float()
    origin = 2.0 ** (bits - 1) if zero is None else zero.float()[..., None]
    return ((grouped - origin) * scale.float()[..., None]).flatten(-2).to(scale.dtype)


def wide(value: Tensor) -> Tensor:
    """In float32 or more, for sums and products that are rounded once, at their end."""
    return value.float() if value.dtype.itemsize < 4 else value


def name_of(dtype: torch.dtype) -> str:
    """How a spec writes a dtype."""
    return str(dtype).removeprefix("torch.")


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a spec's word. Raises ValueError for a word that is none."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"weight spec: got the dtype {name!r}; known: those of torch, as 'bfloat16'")
    return found


@singledispatch
def rows(w: Weight, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    """Rows of the matrix, for embeddings; never by way of the whole dense matrix."""
    raise TypeError(f"rows: no rule for {type(w).__name__}")


@rows.register
def _(w: Dense, index: Tensor) -> Tensor:
    return F.embedding(index, w.value)


@rows.register
def _(w: Quantized, index: Tensor) -> Tensor:
    flat = index.flatten()
    zero = None if w.zero is None else w.zero[flat]
    return _values(w.codes[flat], w.scale[flat], zero, w.bits).view(*index.shape, -1)


@singledispatch
def times(w: Weight, x: Float[Tensor, "*b out"]) -> Float[Tensor, "*b in"]:
    """x @ dense(), in float32 or more: what stands before a node in a product, carried through it."""
    return wide(x) @ wide(w.dense())


def bits(w: Weight) -> int:
    """8 x the stored bytes of the unique tensors of ``w``."""
    stored = {t.data_ptr(): t for t in (*w.parameters(), *w.buffers())}
    return 8 * sum(t.numel() * t.element_size() for t in stored.values())


def check_grid(bits: int, group_size: int, width: int) -> None:
    """Raises ValueError, with the nearest legal group, where a row of ``width`` has no such grid."""
    if bits not in BITS:
        raise ValueError(f"bits: got {bits}; accepted: {', '.join(map(str, BITS))}")
    if group_size < 1 or width % group_size or group_size % period(bits):
        legal = [g for g in (16, 32, 64, 96, 128, 192, 256, width) if width % g == 0 and g % period(bits) == 0]
        best = min(legal, key=lambda g: abs(g - group_size), default=None)
        raise ValueError(f"group_size: got {group_size} for a row of {width}; nearest that divides it: {best}")
