"""Which precision a CPU gets, by what torch says of it."""

from __future__ import annotations

import pytest
import torch

from trimtab.runtime.dtype import compute_dtype, dtype_of


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_tile": True, "avx512_f": True, "avx2": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_bfloat16_where_the_cpu_multiplies_it(capabilities: dict[str, bool], dtype: torch.dtype) -> None:
    assert dtype_of(capabilities) == dtype


def test_this_cpu_gets_one_of_the_two() -> None:
    assert compute_dtype() in (torch.bfloat16, torch.float32)
