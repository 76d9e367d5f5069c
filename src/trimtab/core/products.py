"""X^T X of many rows, summed in float32: in 16 bits where the machine multiplies those, and half of it computed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112
BLOCK = 512
"""Columns of X^T X computed at once, from the diagonal to the left: what is right of it is the same mirrored."""


@cache
def _wide_product() -> Callable[..., None] | None:
    """``cblas_gemm_bf16bf16f32`` of torch's own MKL: products of bfloat16 summed in float32, which torch itself does
    not offer on a CPU (no ``mm(out_dtype=)`` there). None where the library lacks it or the machine gains nothing."""
    from torch.backends import cpu, mkl

    if not mkl.is_available() or "AVX512" not in cpu.get_cpu_capability() or not torch.cpu._is_amx_tile_supported():
        return None
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        found = ctypes.CDLL(str(path)).cblas_gemm_bf16bf16f32
    except (OSError, AttributeError):
        return None
    whole, pointer, real = ctypes.c_int, ctypes.c_void_p, ctypes.c_float
    found.argtypes = [whole] * 6 + [real, pointer, whole, pointer, whole, real, pointer, whole]
    found.restype = None
    made: Callable[..., None] = found
    return made


def add_moment(total: Float[Tensor, "n n"], x: Float[Tensor, "tokens n"], weight: float = 1.0) -> None:
    """total += weight X^T X in place, float32, symmetric to the bit. X in bfloat16 is multiplied as it is, anything
    else in float32; sums are float32 (relative error about 1e-6)."""
    n, wide = x.shape[1], _wide_product() if x.dtype == torch.bfloat16 else None
    if not len(x):
        return
    x = x.contiguous() if wide else x.float()
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        left = total[start:stop, :stop]  # rows of the lower triangle, and the square on the diagonal
        if wide is None:
            left.addmm_(x[:, start:stop].T, x[:, :stop], alpha=weight)
        else:
            a = x.data_ptr() + start * x.element_size()
            wide(ROW_MAJOR, TRANSPOSED, PLAIN, stop - start, stop, len(x), weight, a, n, x.data_ptr(), n, 1.0,
                 left.data_ptr(), n)  # fmt: skip
        total[:start, start:stop] = total[start:stop, :start].T
