"""The first call of every vector function of the CPU is made by one thread.

The math library inside torch (oneMKL 2024, in the wheels to 2.13) chooses the code of each function on its first call.
Where two threads make that call together, one of them may run a low-accuracy code for its half: ``torch.cos`` off by
1.5e-4 in one process of four, measured on two cores (pytorch issue 188792; docs/log.md). The rotary angles of a model
are often that first call, so the same model answered differently in two processes.
"""

from __future__ import annotations

import torch

FUNCTIONS = (
    "acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "erfinv", "exp", "expm1", "lgamma", "log", "log10", "log1p",
    "log2", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
)  # fmt: skip


def settle_first_calls() -> None:
    """Call each function once, on as few numbers as one thread takes, in both precisions; takes about a millisecond.

    Whoever opens a model calls this before the model can be asked anything. Calling it again changes nothing.
    """
    for dtype in (torch.float32, torch.float64):
        few = torch.full((16,), 0.5, dtype=dtype)
        for name in FUNCTIONS:
            getattr(torch, name)(few)
