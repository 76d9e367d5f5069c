"""Plain MLPs, y = D act(U x + b) + c, among a library's own modules: by their answers, not by their names.

The activations are x / (1 + e^-z) with z = x (SiLU), 2 sqrt(2 / pi) (x + 0.044715 x^3) (GELU by tanh) and 1.702 x (its
quick form; both Hendrycks and Gimpel 2016), and x Phi(x) itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.core.linear import Linear
from trimtab.core.native import KNOWN
from trimtab.core.probe import Stand, probes, same

NAMES = ("fc1", "fc2")
CURVES: Sequence[Callable[[Tensor], Tensor]] = (
    F.silu, lambda x: F.gelu(x, approximate="tanh"), lambda x: x * torch.sigmoid(1.702 * x), F.gelu,
)  # fmt: skip
"""In the order of the compiled library's numbers (native/curves.h)."""


def curve_of(module: nn.Module) -> int | None:
    """The number of a plain MLP's activation, by its answers with simple maps in place of its two matrices; None for
    anything else."""
    named = [(name, one) for name in NAMES if isinstance(one := getattr(module, name, None), Linear)]
    if len(named) < len(NAMES) or any(True for _ in module.parameters(recurse=False)):
        return None
    first, last = (one for _, one in named)
    if first.weight_dtype not in KNOWN or first.out_features != last.in_features:
        return None
    x, stands = probes(first.in_features, first.weight_dtype), copy(module)
    made = [Stand(one, shift) for shift, (_, one) in enumerate(named)]
    stands._modules = dict(module._modules) | dict(zip(NAMES, made, strict=True))
    with torch.no_grad():
        asked = stands(x)
        return next((n for n, curve in enumerate(CURVES) if same(made[1](curve(made[0](x))), asked)), None)
