"""X^T X of many rows, and sums over it, in float32: by 16-bit products where the machine has them, half computed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.backends import cpu

from trimtab.core import mkl
from trimtab.core.native import add_lower_moment, amx

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112
BLOCK = 512
"""Columns of X^T X computed at once, from the diagonal to the left: what is right of it is the same mirrored."""


@cache
def _wide_product() -> Callable[..., None] | None:
    """``cblas_gemm_bf16bf16f32`` of torch's own MKL: products of bfloat16 summed in float32, which torch itself does
    not offer on a CPU (no ``mm(out_dtype=)`` there). None where the library lacks it or the machine gains nothing."""
    if "AVX512" not in cpu.get_cpu_capability() or not torch.cpu._is_amx_tile_supported():
        return None
    found: Any = mkl.function("cblas_gemm_bf16bf16f32")
    if found is None:
        return None
    whole, pointer, real = ctypes.c_int, ctypes.c_void_p, ctypes.c_float
    found.argtypes = [whole] * 6 + [real, pointer, whole, pointer, whole, real, pointer, whole]
    found.restype = None
    made: Callable[..., None] = found
    return made


def add_moment(total: Float[Tensor, "n n"], x: Float[Tensor, "tokens n"], weight: float = 1.0) -> None:
    """The lower triangle of total += weight X^T X in place, float32; what is above it is undefined (``mirror``). X in
    bfloat16 is multiplied as it is, anything else in float32; sums are float32 (relative error about 1e-6)."""
    if not len(x):
        return
    if x.dtype == torch.bfloat16 and amx():
        add_lower_moment(total, x, weight)
        return
    x = _operand(x)
    for start, stop in _stripes(x.shape[1]):
        _add_stripe(total[start:stop, :stop], x, start, weight)


def mirror(total: Float[Tensor, "n n"]) -> None:
    """What is above the diagonal becomes what is below it, in place."""
    for start, stop in _stripes(len(total)):
        total[:start, start:stop] = total[start:stop, :start].T
        square = total[start:stop, start:stop]
        square.copy_(square.tril() + square.tril(-1).T)


def quadratic(x: Float[Tensor, "rows n"], h: Float[Tensor, "n n"]) -> float:
    """tr(X H X^T) of a symmetric H, as the sum of (X^T X) * H, half of it computed; products as in ``add_moment``."""
    x, found = _operand(x), 0.0
    for start, stop in _stripes(x.shape[1]):
        made = torch.zeros(stop - start, stop)
        _add_stripe(made, x, start, 1.0)
        made *= h[start:stop, :stop]
        found += 2 * float(made[:, :start].sum()) + float(made[:, start:].sum())
    return found


def product(a: Float[Tensor, "m n"], b: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
    """A B in float32: by products of bfloat16 where both are that and the machine makes these."""
    wide = _wide_product() if a.dtype == b.dtype == torch.bfloat16 else None
    if wide is None:
        return a.float() @ b.float()
    (m, n), k = a.shape, b.shape[1]
    a, b, made = a.contiguous(), b.contiguous(), torch.empty(m, k)
    wide(ROW_MAJOR, PLAIN, PLAIN, m, k, n, 1.0, a.data_ptr(), n, b.data_ptr(), k, 0.0, made.data_ptr(), k)
    return made


def _stripes(n: int) -> Iterator[tuple[int, int]]:
    """Rows of the lower triangle of X^T X, each with the square on the diagonal."""
    return ((start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def _operand(x: Float[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    """X as it is multiplied."""
    return x.contiguous() if x.dtype == torch.bfloat16 and _wide_product() is not None else x.float()


def _add_stripe(out: Float[Tensor, "part stop"], x: Float[Tensor, "rows n"], start: int, weight: float) -> None:
    """out += weight times rows ``start`` on of X^T X, as far as the diagonal."""
    (part, stop), n = out.shape, x.shape[1]
    wide = _wide_product() if x.dtype == torch.bfloat16 else None
    if wide is None:
        out.addmm_(x[:, start:stop].T, x[:, :stop], alpha=weight)
        return
    a = x.data_ptr() + start * x.element_size()
    wide(ROW_MAJOR, TRANSPOSED, PLAIN, part, stop, len(x), weight, a, n, x.data_ptr(), n, 1.0, out.data_ptr(),
         out.stride(0))  # fmt: skip
