"""Attention of towers by the compiled library, where every row sees every entry: beside ``anatomy/attention.py``, whose
``attend`` asks a module's ``kernel`` first."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab.core.native import library
from trimtab.runtime.level import level

TILED = 3
"""The level from which the library has it (native/product.h)."""
WIDTHS = 32
"""What divides the numbers of a head."""


class Given(Structure):
    """``Whole`` of native/attention.h."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("query", "key", "value", "y")),
        *((name, c_int64 * 3) for name in ("of_query", "of_key", "of_value", "of_y")),
        *((name, c_int32) for name in ("batch", "heads", "shared", "rows", "entries", "size", "level", "reserved")),
        ("scaling", c_float),
    ]


@dataclass(frozen=True)
class Whole:
    """softmax(scaling q k^T) v for bfloat16 without gradients, the softmax rounded to it before the product with v,
    sums in float32; None for what the library does not take."""

    level: int

    def __call__(
        self, q: Float[Tensor, "b h t d"], k: Float[Tensor, "b g s d"], v: Float[Tensor, "b g s d"], scaling: float
    ) -> Float[Tensor, "b t h d"] | None:
        """Raises MemoryError."""
        native, (batch, heads, rows, size) = library(), q.shape
        assert native is not None
        alike = all(x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.stride(3) == 1 for x in (q, k, v))
        taught = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        fits = (
            k.shape == v.shape and k.shape[0] == batch and k.shape[3] == size and k.shape[1] and not heads % k.shape[1]
        )
        if not alike or taught or not fits or size % WIDTHS or not q.numel() or not k.numel():
            return None
        y = q.new_empty(batch, rows, heads, size)
        places = [(c_int64 * 3)(*x.stride()[:3]) for x in (q, k, v, y.transpose(1, 2))]
        given = Given(*(x.data_ptr() for x in (q, k, v, y)), *places, batch, heads, k.shape[1], rows, k.shape[2], size,
                      self.level, 0, scaling)  # fmt: skip
        if native.trimtab_attend(ctypes.byref(given), torch.get_num_threads()):
            raise MemoryError(f"attention of {rows} rows to {k.shape[2]}")
        return y


def whole_of() -> Whole | None:
    """What this CPU has of it."""
    here = level()
    return None if here is None or here < TILED else Whole(here)


def bidirectional(module: nn.Module) -> bool:
    """Whether it is attention that says of itself that it looks both ways."""
    return getattr(module, "is_causal", None) is False


def look(model: Any) -> None:
    """Every such module has the kernel from now on."""
    if (kernel := whole_of()) is not None:
        for module in filter(bidirectional, model.modules()):
            module.kernel = kernel


def look_away(model: Any) -> None:
    """The inverse."""
    for module in model.modules():
        if isinstance(vars(module).get("kernel"), Whole):
            del module.kernel
