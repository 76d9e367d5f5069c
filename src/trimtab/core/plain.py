"""Plain MLPs, y = D act(U x + b) + c, among a library's own modules: by their answers, not by their names.

The activations are x / (1 + e^-z) with z = x (SiLU), 2 sqrt(2 / pi) (x + 0.044715 x^3) (GELU by tanh) and 1.702 x (its
quick form; both Hendrycks and Gimpel 2016), and x Phi(x) itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from inspect import signature

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.core.linear import Host, Linear
from trimtab.core.native import KNOWN
from trimtab.core.probe import Stand, probes, same

NAMES = ("fc1", "fc2")
CURVES: Sequence[Callable[[Tensor], Tensor]] = (
    F.silu, lambda x: F.gelu(x, approximate="tanh"), lambda x: x * torch.sigmoid(1.702 * x), F.gelu,
)  # fmt: skip
"""In the order of the compiled library's numbers (native/curves.h)."""


FAR = 20.0
"""Times as far from 0 as other rows is a second asking, where activations that are cut off differ from those that are
not."""


def curve_of(module: nn.Module) -> int | None:
    """The number of a plain MLP's activation, by its answers with simple maps in place of its two matrices; None for
    anything else. A layer whose matrices of these names stand among others is not asked."""
    named = [(name, one) for name in NAMES if isinstance(one := getattr(module, name, None), Linear)]
    if len(named) < len(NAMES) or any(True for _ in module.parameters(recurse=False)) or not _asks_for_one(module):
        return None
    first, last = (one for _, one in named)
    others = [one for name, child in module.named_children() if name not in NAMES for one in child.modules()]
    among = any(isinstance(one, Host) for one in others)
    if first.weight_dtype not in KNOWN or first.out_features != last.in_features or among:
        return None
    x, stands = probes(first.in_features, first.weight_dtype), copy(module)
    x = torch.cat([x, FAR * x])
    made = [Stand(one, shift) for shift, (_, one) in enumerate(named)]
    stands._modules = dict(module._modules) | dict(zip(NAMES, made, strict=True))
    with torch.no_grad():
        asked = stands(x)
        return next((n for n, curve in enumerate(CURVES) if same(made[1](curve(made[0](x))), asked)), None)


def _asks_for_one(module: nn.Module) -> bool:
    """Whether its forward needs one thing and no more."""
    told = signature(module.forward).parameters.values()
    return sum(one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in told) == 1
