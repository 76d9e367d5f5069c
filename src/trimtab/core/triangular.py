"""Cholesky's factor of a large matrix and the inverse of a triangular one, in the time that the arithmetic takes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core import mkl

LEAF = 256
"""Rows of a triangular matrix that are inverted by substitution; what is larger is halved."""


def _potrf() -> Callable[..., None] | None:
    """LAPACK's ``spotrf``. Called on a matrix in row order it needs neither the copy to column order nor the walk
    across it (``tril``) on which torch spends three quarters of its time."""
    return mkl.function("spotrf_")


def cholesky(h: Float[Tensor, "n n"]) -> Float[Tensor, "n n"] | None:
    """L, lower triangular, with H = L L^T, float32; None where H is not positive definite. H is overwritten."""
    factor = _potrf()
    if factor is None:
        lower, failed = torch.linalg.cholesky_ex(h)
        return None if failed else lower.contiguous()
    h = h.contiguous()
    n, info = ctypes.c_int(len(h)), ctypes.c_int()
    factor(b"U", ctypes.byref(n), ctypes.c_void_p(h.data_ptr()), ctypes.byref(n), ctypes.byref(info))
    return None if info.value else h.tril_()  # what Fortran takes for the upper triangle is the lower one in row order


def inverted(lower: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """L^-1 of a lower triangular L: [A 0; C B]^-1 = [A^-1 0; -B^-1 C A^-1 B^-1], a third of what substitution does."""
    made = torch.zeros_like(lower)
    _invert(lower, made)
    return made


def _invert(lower: Float[Tensor, "n n"], out: Float[Tensor, "n n"]) -> None:
    n = len(lower)
    if n <= LEAF:
        out.copy_(torch.linalg.solve_triangular(lower, torch.eye(n), upper=False))
        return
    half = n // 2
    _invert(lower[:half, :half], out[:half, :half])
    _invert(lower[half:, half:], out[half:, half:])
    torch.mm(out[half:, half:], lower[half:, :half] @ out[:half, :half], out=out[half:, :half])
    out[half:, :half].neg_()
