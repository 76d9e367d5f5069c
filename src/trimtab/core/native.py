"""The compiled form of what Python is too slow for: a small library with a plain C interface over pointers.

``src/trimtab/native`` holds its source; ``hatch_build.py`` compiles it when Trimtab is installed where a C++ compiler
is, and everything has a form in torch where there is none, which the laws compare it with. It needs no torch headers.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[1] / "native"
NAME = "trimtab_native.so"
SHORT = 1 << 17
"""Numbers of which a pass over them must have more for each thread: one is started for every call."""
KNOWN = (torch.float32, torch.bfloat16)
"""Dtypes of activations that are read as they are."""
STORED = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Dtypes in which a grid's scales are stored, as the library numbers them."""


def threads_for(x: Tensor) -> int:
    """How many threads one pass over ``x`` gets."""
    return min(torch.get_num_threads(), 1 + x.numel() // SHORT)


class Swept(NamedTuple):
    """Codes, scales and zeros of a transposed matrix; scales are already those that will be stored."""

    codes: UInt8[Tensor, "n rows"]
    scale: Float[Tensor, "groups rows"]
    zero: Float[Tensor, "groups rows"]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library; None where it was not built, or was built for another machine."""
    path = FOLDER / NAME
    if not path.is_file():
        return None
    try:
        found = ctypes.CDLL(str(path))
    except OSError:
        return None
    pointer, whole = ctypes.c_void_p, ctypes.c_int
    found.trimtab_sweep.argtypes = [pointer] * 4 + [whole] * 7 + [pointer] * 3
    found.trimtab_sweep.restype = whole
    found.trimtab_lost.argtypes = [pointer] * 2 + [whole] * 6 + [pointer]
    found.trimtab_lost.restype = whole
    found.trimtab_sizes.argtypes = [pointer, ctypes.c_int64, whole, whole, *[pointer] * 3]
    found.trimtab_sizes.restype = whole
    found.trimtab_moment.argtypes = [pointer, ctypes.c_int64, whole, ctypes.c_float, whole, pointer]
    found.trimtab_moment.restype = whole
    found.trimtab_amx.restype = whole
    found.trimtab_rms_norm.argtypes = [pointer, pointer, ctypes.c_int64, whole, ctypes.c_float, *[whole] * 3, pointer]
    found.trimtab_rms_norm.restype = whole
    found.trimtab_gated.argtypes = [pointer, pointer, ctypes.c_int64, whole, whole, whole]
    found.trimtab_gated.restype = whole
    found.trimtab_level.restype = whole
    found.trimtab_product.argtypes = [pointer, pointer, whole, ctypes.c_int64, *[whole] * 3, pointer]
    found.trimtab_product.restype = whole
    found.trimtab_mlp.argtypes = [pointer, pointer, whole, pointer, whole, ctypes.c_int64, *[whole] * 4, pointer]
    found.trimtab_mlp.restype = whole
    found.trimtab_attend.argtypes = [pointer, whole]
    found.trimtab_attend.restype = whole
    found.trimtab_rows.argtypes = [pointer, pointer, ctypes.c_int64, pointer]
    found.trimtab_rows.restype = None
    found.trimtab_read.argtypes = [pointer, ctypes.c_int64, whole]
    found.trimtab_read.restype = ctypes.c_uint64
    found.trimtab_large_pages.argtypes = [pointer, ctypes.c_int64]
    found.trimtab_large_pages.restype = None
    found.trimtab_decoder_new.argtypes = [pointer, whole, whole]
    found.trimtab_decoder_new.restype = pointer
    found.trimtab_decoder_free.argtypes = [pointer]
    found.trimtab_decoder_free.restype = None
    found.trimtab_decoder_step.argtypes = [pointer, pointer]
    found.trimtab_decoder_step.restype = whole
    found.trimtab_lend_threads.argtypes = [pointer] * 3
    found.trimtab_lend_threads.restype = None
    _share_threads(found)
    return found


def _share_threads(native: ctypes.CDLL) -> None:
    """Let torch's threads do its work where they are GNU OpenMP's: after each operation these wait for the next one on
    a core of their own, which two sets of threads would then want."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8").splitlines() if maps.is_file() else []
    paths = (line.split(maxsplit=5)[-1] for line in lines)
    path = next((one for one in paths if Path(one).name.startswith("libgomp")), None)
    if path is not None:
        lender = ctypes.CDLL(path)
        asked = (lender.GOMP_parallel, lender.omp_get_thread_num, lender.omp_get_num_threads)
        native.trimtab_lend_threads(*(ctypes.cast(one, ctypes.c_void_p) for one in asked))


def sweep(
    w: Float[Tensor, "n rows"],
    u: Float[Tensor, "n n"] | None,
    weight: Float[Tensor, " n"],
    shrinks: Float[Tensor, " tries"],
    bits: int,
    group: int,
    symmetric: bool,
    dtype: torch.dtype,
) -> Swept | None:
    """GPTQ's codes of W^T with the inverse root ``u``, or the nearest ones where it is None; see quantize/gptq.py and
    grid.py. None where there is no compiled library. Raises MemoryError."""
    native = library()
    if native is None or dtype not in STORED:
        return None
    n, rows = w.shape
    w, weight, shrinks = (t.to(torch.float32).contiguous() for t in (w, weight, shrinks))
    u = u if u is None else u.to(torch.float32).contiguous()
    made = Swept(torch.empty(n, rows, dtype=torch.uint8), *(torch.empty(n // group, rows) for _ in range(2)))
    failed = native.trimtab_sweep(
        w.data_ptr(), None if u is None else u.data_ptr(), weight.data_ptr(), shrinks.data_ptr(), len(shrinks), n, rows,
        group, bits, int(symmetric), STORED[dtype], *(t.data_ptr() for t in made)
    )  # fmt: skip
    if failed:
        raise MemoryError(f"a sweep over {n} columns of {rows} rows")
    return made


def lost(
    w: Float[Tensor, "n rows"],
    back: Float[Tensor, " n"],
    bits: int,
    group: int,
    symmetric: bool,
    dtype: torch.dtype,
) -> Float[Tensor, "n rows"] | None:
    """(X - Q(X)) * back of X = W^T / back, rounded to nearest on each group's full range; see quantize/scaled.py. None
    where there is no compiled library. Raises MemoryError."""
    native = library()
    if native is None or dtype not in STORED:
        return None
    (n, rows), w, back = w.shape, w.to(torch.float32).contiguous(), back.to(torch.float32).contiguous()
    made = torch.empty(n, rows)
    failed = native.trimtab_lost(
        w.data_ptr(), back.data_ptr(), n, rows, group, bits, int(symmetric), STORED[dtype], made.data_ptr()
    )
    if failed:
        raise MemoryError(f"the rounding of {n} columns of {rows} rows")
    return made


def add_sizes(
    total: Float[Tensor, " n"], squares: Float[Tensor, " n"], largest: Float[Tensor, " n"], x: Float[Tensor, "rows n"]
) -> None:
    """Of each column of X, the sum of |x| added to ``total``, that of x^2 to ``squares``, and the largest |x| raised in
    ``largest``, in place and in float32; NaN stays NaN."""
    native = library()
    if native is not None and x.dtype in KNOWN:
        x = x.contiguous()
        into = (total.data_ptr(), squares.data_ptr(), largest.data_ptr())
        native.trimtab_sizes(x.data_ptr(), *x.shape, STORED[x.dtype], *into)
    elif len(x):
        size = x.abs().float()
        total += size.sum(0)
        squares += size.square().sum(0)
        torch.maximum(largest, size.amax(0), out=largest)


@cache
def amx() -> bool:
    """Whether the library multiplies tiles of bfloat16 on this machine."""
    native = library()
    return native is not None and bool(native.trimtab_amx())


def add_lower_moment(total: Float[Tensor, "n n"], x: Float[Tensor, "rows n"], weight: float) -> None:
    """The lower triangle of total += weight X^T X, X in bfloat16, total in float32 and contiguous; where ``amx``.
    Raises MemoryError."""
    native, x = library(), x.contiguous()
    assert native is not None
    if native.trimtab_moment(x.data_ptr(), *x.shape, weight, torch.get_num_threads(), total.data_ptr()):
        raise MemoryError(f"the second moment of {x.shape[1]} inputs")


def read_all(x: Tensor) -> int:
    """Every byte of ``x``, read by all threads: the sum of its 64-bit words, as torch wraps it around."""
    native, words = library(), x.contiguous().flatten().view(torch.int64)
    if native is None:
        return int(words.sum())
    found = int(native.trimtab_read(words.data_ptr(), len(words), torch.get_num_threads()))
    return found - (1 << 64) if found >= 1 << 63 else found
