"""Plain MLPs of towers in one call of the compiled library, in the place of a module's ``forward``.

Between its matrices the library's modules write the widest array of a block twice, once for each operation; here it is
as long as the rows that are worked on at once.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab.core.errors import Refused
from trimtab.core.linear import Linear
from trimtab.core.native import KNOWN, STORED, library
from trimtab.core.plain import NAMES, curve_of
from trimtab.runtime.compiled import Compiled
from trimtab.runtime.plan.layout import chunk_of

FORWARD = "forward"


@dataclass(frozen=True)
class Fused:
    """D act(U x + b) + c, sums and the activation in float32; see ``Compiled`` for how inputs are rounded. ``module``'s
    own forward goes on with what the library does not take, and where a host has another kernel by now or somebody
    listens to it."""

    module: nn.Module
    curve: int

    def __call__(self, x: Float[Tensor, "*b in"]) -> Float[Tensor, "*b out"]:
        """Raises Refused where a gradient is asked for, MemoryError where there is none."""
        hosts = hosts_of(self.module)
        if x.dtype not in KNOWN or not x.numel() or hosts is None:
            y: Tensor = type(self.module).forward(self.module, x)
            return y
        if torch.is_grad_enabled() and x.requires_grad:
            raise Refused("a lowered model: its compiled products have no gradients; accepted: the model as it loads")
        native, (first, last) = library(), ((host.kernel.laid, host.kernel.level) for host in hosts)
        assert native is not None
        (up, level), (down, _) = first, last
        rows = x.reshape(-1, up.shape[1]).contiguous()
        y = rows.new_empty(len(rows), down.shape[0])
        biases = [None if host.bias is None else host.bias.detach().float().contiguous() for host in hosts]
        given = [one.matrix(bias) for one, bias in zip((up, down), biases, strict=True)]
        if native.trimtab_mlp(
            *map(ctypes.byref, given), self.curve, rows.data_ptr(), STORED[rows.dtype], len(rows), chunk_of([up]),
            chunk_of([down]), level, torch.get_num_threads(), y.data_ptr(),
        ):  # fmt: skip
            raise MemoryError(f"an MLP of {len(rows)} rows")
        return y.view(*x.shape[:-1], down.shape[0])


def hosts_of(module: nn.Module) -> list[Any] | None:
    """The two of ``module`` where both run on the compiled library alone and nobody listens to them."""
    hosts = [getattr(module, name, None) for name in NAMES]
    return hosts if all(_alone(host) for host in hosts) else None


def _alone(host: Any) -> bool:
    if not isinstance(host, Linear) or not isinstance(host.kernel, Compiled):
        return False
    return host.acts is None and host.tap is None and not host._forward_hooks and not host._forward_pre_hooks


def fuse(model: nn.Module) -> None:
    """Every plain MLP of such hosts; one that somebody else gave another ``forward`` is left alone."""
    for module in model.modules():
        if FORWARD in vars(module) or hosts_of(module) is None or (curve := curve_of(module)) is None:
            continue
        vars(module)[FORWARD] = Fused(module, curve)


def part(model: nn.Module) -> None:
    """The inverse."""
    for module in model.modules():
        if isinstance(vars(module).get(FORWARD), Fused):
            del vars(module)[FORWARD]
