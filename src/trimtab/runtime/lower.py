"""Put the kernels of this CPU beside the reference weights of a model, and say for each linear which, or why none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from trimtab.core.build import build
from trimtab.core.linear import Embedding, Kernel, Linear
from trimtab.core.weight import Quantized, Weight
from trimtab.runtime.dtype import compute_dtype
from trimtab.runtime.kernels import Packed4, Packed8, unfit

KERNELS: Mapping[int, tuple[str, Callable[[Quantized, torch.dtype, bool], Kernel]]] = {
    4: ("int4pack", Packed4.of),
    8: ("int8pack", Packed8.of),
}
"""By bits: the kernel's name and what makes one."""


@dataclass(frozen=True)
class LowerReport:
    """``kernels``: linear to kernel. ``reasons``: linear to why the reference stays. ``kept``: linear to why its codes
    were not released, where that was asked for."""

    kernels: Mapping[str, str]
    reasons: Mapping[str, str]
    kept: Mapping[str, str]

    def __str__(self) -> str:
        rows = [f"{name}: {kernel}" for name, kernel in self.kernels.items()]
        return "\n".join(rows + [f"{name}: reference ({why})" for name, why in self.reasons.items()])


def lower(
    model: nn.Module, *, release: bool = False, dtype: torch.dtype | None = None, capability: str | None = None
) -> LowerReport:
    """Set ``kernel`` on every Linear host whose weight has one; the weight stays the reference beside it.

    Hosts that share a weight share a kernel. ``release`` drops codes of which a kernel has its own copy (``w`` keeps
    its shape, on the meta device: such a model runs, but cannot be saved, trimmed or lowered again); codes that an
    embedding also reads stay. ``dtype``: what many bfloat16 rows are computed in, by default ``compute_dtype()``.
    ``capability``: torch's name for the CPU's vector units, by default this CPU's.
    """
    dtype, capability = dtype or compute_dtype(), capability or torch.backends.cpu.get_cpu_capability()
    read = {id(host.w) for host in model.modules() if isinstance(host, Embedding)}
    found: dict[str, tuple[str, Kernel]] = {}
    reasons: dict[str, str] = {}
    kept: dict[str, str] = {}
    made: dict[int, tuple[Weight, str, Kernel]] = {}  # holds the weight, so that no other can get its id
    hosts = [module for module in model.modules() if isinstance(module, Linear)]
    for host in hosts:
        w, host.kernel = host.w, None
        why = unfit(w, capability) if isinstance(w, Quantized) else f"{type(w).__name__} weight: kernels take Quantized"
        if why is not None:
            reasons[host.name] = why
            continue
        assert isinstance(w, Quantized)
        if id(w) not in made:
            name, make = KERNELS[w.bits]
            made[id(w)] = w, name, make(w, dtype, release and id(w) not in read)
        _, name, host.kernel = made[id(w)]
        found[host.name] = name, host.kernel
        if release and id(w) in read:
            kept[host.name] = "an embedding reads the same codes"
    if release:
        _drop([host for host in hosts if host.name in found and host.name not in kept])
    return LowerReport({name: kernel for name, (kernel, _) in found.items()}, reasons, kept)


def _drop(hosts: list[Linear]) -> None:
    """Leave the shape of their weights only."""
    empty: dict[int, Weight] = {}
    held = [host.w for host in hosts]
    with torch.device("meta"):
        for host, w in zip(hosts, held, strict=True):
            if id(w) not in empty:
                empty[id(w)] = build(w.spec())
            host.w = empty[id(w)]
