"""Gated linear units in one pass (Shazeer 2020): y = D (act(G x) * U x), for a library's own modules.

Libraries write act(g) * u as two operations that each make a new matrix, the widest of a block; here it is one, in the
place of g. SiLU and the GELU by tanh, x / (1 + e^-z) with z = x and z = 2 sqrt(2 / pi) (x + 0.044715 x^3), rounded to
the dtype before the product as there. A module is taken for such a unit if it answers as one.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.core.linear import Linear
from trimtab.core.native import KNOWN, STORED, library, threads_for
from trimtab.core.probe import Stand, probes, same

SILU, GELU_TANH = range(2)
"""As the library numbers them."""
NAMES = ("gate_proj", "up_proj", "down_proj")


def act(x: Float[Tensor, "*b n"], kind: int) -> Float[Tensor, "*b n"]:
    """The activation of that kind, as torch has it."""
    return F.silu(x) if kind == SILU else F.gelu(x, approximate="tanh")


def multiply(gate: Float[Tensor, "*b n"], up: Float[Tensor, "*b n"], kind: int) -> Float[Tensor, "*b n"]:
    """act(gate) * up; in the place of ``gate`` where there is the compiled library."""
    native, known = library(), gate.dtype == up.dtype and gate.dtype in KNOWN
    if native is None or not known or not gate.is_contiguous() or gate.shape != up.shape:
        return act(gate, kind) * up
    up = up.contiguous()
    native.trimtab_gated(gate.data_ptr(), up.data_ptr(), gate.numel(), kind, STORED[gate.dtype], threads_for(gate))
    return gate


def kind_of(module: nn.Module) -> int | None:
    """The activation of a gated unit, by its answers with simple maps in place of its matrices (these may lie in a
    file); None for anything else."""
    named = [(name, one) for name in NAMES if isinstance(one := getattr(module, name, None), Linear)]
    if library() is None or len(named) < len(NAMES):
        return None
    first = named[0][1]
    if first.weight_dtype not in KNOWN or any(True for _ in module.parameters(recurse=False)):
        return None
    x, stands = probes(first.in_features, first.weight_dtype), copy(module)
    stands._modules = dict(module._modules) | {name: Stand(one, shift) for shift, (name, one) in enumerate(named)}
    with torch.no_grad():
        asked = stands(x)
        return next((kind for kind in (SILU, GELU_TANH) if same(_unit(stands, kind, x), asked)), None)


def one_pass(module: nn.Module) -> Callable[..., Tensor] | None:
    """A forward in one pass that answers as the module's; None for anything that is no gated unit."""
    kind = kind_of(module)
    return None if kind is None else partial(_unit, module, kind)


def _unit(module: Any, kind: int, x: Tensor) -> Tensor:
    made: Tensor = module.down_proj(multiply(module.gate_proj(x), module.up_proj(x), kind))
    return made
