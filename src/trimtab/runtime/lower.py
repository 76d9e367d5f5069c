"""Put the kernels of this CPU beside the reference weights of a model, and say for each linear which, or why none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from trimtab.core.acts import Rounding
from trimtab.core.codebook import Codebook
from trimtab.core.joins import leaves
from trimtab.core.linear import Embedding, Kernel, Linear
from trimtab.core.sparse import Masked
from trimtab.core.weight import Quantized, Weight
from trimtab.runtime import int8
from trimtab.runtime.arena import Arena
from trimtab.runtime.compiled import NAMES, Compiled
from trimtab.runtime.compose import Made, compose, thick
from trimtab.runtime.dtype import compute_dtype
from trimtab.runtime.held import AS_IT_IS, HOLD, Held, held_bytes
from trimtab.runtime.kernels import INT4_ROWS, INT8_ROWS, Packed4, Packed8, unfit
from trimtab.runtime.level import level
from trimtab.runtime.plan.layout import Laid, laid
from trimtab.runtime.release import drop, let_go

KERNELS: Mapping[int, tuple[str, int, Callable[[Quantized, torch.dtype, bool], Kernel]]] = {
    4: ("int4pack", INT4_ROWS, Packed4.of),
    8: ("int8pack", INT8_ROWS, Packed8.of),
}
"""By bits: the kernel's name, up to how many rows it beats a dense product, and what makes one."""
COPY = "dense copy"
"""The name of what runs where no kernel reads the stored form, in a model small enough for copies."""
SIMULATED: Mapping[str, str] = {"e2m1": "simulated: this CPU has no arithmetic of 4-bit floats"}
"""Levels for which other hardware has arithmetic of its own, and what is said of them here."""

Key = tuple[int, Rounding | None]
"""What a kernel is made for: a weight, by its id, and what is done to its input."""


@dataclass(frozen=True)
class LowerReport:
    """``kernels``: linear to kernel. ``reasons``: linear to why no kernel reads its stored form. ``kept``: linear to
    why its codes were not released, where that was asked for. ``held``: bytes of dense copies beside the codes.
    ``simulated``: linears in a format for which there is hardware, but not here: their times say nothing of it.
    ``laid``: by id of a weight or leaf, what the compiled library reads. ``planless``: why no plan runs the decoder, ""
    where one does."""

    kernels: Mapping[str, str]
    reasons: Mapping[str, str]
    kept: Mapping[str, str]
    held: int = 0
    simulated: tuple[str, ...] = ()
    laid: Mapping[int, Laid] = field(default_factory=dict, repr=False)
    planless: str = "not asked for"

    def __str__(self) -> str:
        rows = [f"{name}: {kernel}" for name, kernel in self.kernels.items()]
        rows += [f"{name}: {self.kernels.get(name, 'reference')} ({why})" for name, why in self.reasons.items()
                 if self.kernels.get(name, COPY) == COPY]  # fmt: skip
        return "\n".join(dict.fromkeys(rows))


def lower(
    model: nn.Module,
    *,
    release: bool = False,
    dtype: torch.dtype | None = None,
    capability: str | None = None,
    hold: int = HOLD,
    compiled: bool = True,
) -> LowerReport:
    """Set ``kernel`` on every Linear host whose weight has one; the weight stays the reference beside it.

    Hosts that share a weight, and what is done to the input, share a kernel. ``release`` drops codes of which a kernel
    has its own copy (``w`` keeps its shape, on the meta device: such a model runs, but cannot be saved, trimmed or
    lowered again); codes that an embedding also reads stay where no kernel reads rows of them. ``compiled``: by the
    products of the compiled library where it is built and takes the weight, else by torch's. Of these, ``dtype`` is
    what many bfloat16 rows are computed in, by default ``compute_dtype()``; ``capability`` torch's name for the CPU's
    vector units, by default this CPU's. ``hold``: a model whose matrices take at most so many bytes dense has copies of
    those that no compiled product reads beside the codes (see ``held``); none where it releases.
    """
    dtype, capability = dtype or compute_dtype(), capability or torch.backends.cpu.get_cpu_capability()
    hosts = [module for module in model.modules() if isinstance(module, Linear)]
    tables = [module for module in model.modules() if isinstance(module, Embedding)]
    found_level = level() if compiled else None
    laids = {} if found_level is None else _laid(hosts)
    wanted = held_bytes((host.w for host in hosts if host.acts is None and id(host.w) not in laids), dtype)
    make = _Make(dtype, capability, release, {id(table.w) for table in tables},
                 0 if release or wanted > hold else wanted, laids, found_level or 0)  # fmt: skip
    made: dict[Key, tuple[Weight, str | None, Kernel | None]] = {}  # holds the weight: no other can get its id
    for host in hosts:
        if _key(host) not in made:
            made[_key(host)] = host.w, *make(host.w, host.acts)
        host.kernel = made[_key(host)][2]
    found = {host.name: name for host in hosts if (name := made[_key(host)][1]) is not None}
    reasons = {host.name: why for host in hosts if (why := make.unfit(host.w, host.acts)) is not None}
    kept = {name: "an embedding reads the same codes" for name in _read(hosts, make, found) if release}
    simulated = tuple(host.name for host in hosts if any(_simulated(leaf) for leaf in leaves(host.w)))
    if release:
        gone = let_go(model, laids)
        drop([host for host in hosts if host.name in found and host.name not in gone | kept.keys()])
    return LowerReport(found, reasons, kept, make.held, simulated, laids)


@dataclass(frozen=True)
class _Make:
    """Kernels for weights. ``read``: ids of weights that an embedding reads; ``held``: bytes of copies, or 0; ``laid``:
    by id, what the compiled library has of a weight, or of a leaf of one."""

    dtype: torch.dtype
    capability: str
    release: bool
    read: set[int]
    held: int
    laid: Mapping[int, Laid]
    level: int

    def unfit(self, w: Weight, acts: Rounding | None) -> str | None:
        """Why ``w`` has no kernel: of an expression, why one of its leaves has none."""
        if acts is not None:
            return int8.unfit(w, self.capability)
        for leaf in thick(w) or [w]:
            if id(leaf) in self.laid:
                continue
            if isinstance(leaf, Codebook):
                return _simulated(leaf) or f"{leaf.levels} levels: kernels take grids of even steps"
            if not isinstance(leaf, Quantized):
                return f"{type(leaf).__name__} weight: kernels take Quantized"
            if (why := unfit(leaf, self.capability)) is not None:
                return why
        return None

    def __call__(self, w: Weight, acts: Rounding | None) -> tuple[str | None, Kernel | None]:
        why = self.unfit(w, acts)
        if acts is not None:
            return (None, None) if why is not None else int8.lowered(acts, w)
        if why is not None:
            return (COPY, Held.of(w, self.dtype)) if self.held and not isinstance(w, AS_IT_IS) else (None, None)
        name, rows, packed = compose(w, partial(self.pack, release=self.release and id(w) not in self.read))
        whole = all(id(leaf) in self.laid for leaf in thick(w))
        return name, Held.of(w, self.dtype, packed, rows) if self.held and not whole else packed

    def pack(self, w: Weight, release: bool) -> Made:
        if id(w) in self.laid:
            return NAMES[self.laid[id(w)].kind], sys.maxsize, Compiled(self.laid[id(w)], self.level)
        assert isinstance(w, Quantized)
        name, rows, of = KERNELS[w.bits]
        return name, rows, of(w, self.dtype, release)


def _laid(hosts: Iterable[Linear]) -> dict[int, Laid]:
    """What the compiled library reads of each grid, codebook or pruned matrix that a linear multiplies by, alone or
    among others."""
    made, arena = dict[int, Laid](), Arena()
    for leaf in (leaf for host in hosts if host.acts is None for leaf in thick(host.w)):
        if id(leaf) not in made and _stored(leaf) and isinstance(found := laid(leaf), Laid):
            made[id(leaf)] = arena.place(found)
    return made


def _stored(leaf: Weight) -> bool:
    """Whether it lies here in fewer bits than a dense matrix, and stays so for the library."""
    if isinstance(leaf, Masked):
        return leaf.dtype == torch.bfloat16 and leaf.values.device.type == "cpu"
    return isinstance(leaf, Quantized | Codebook) and leaf.codes.device.type == "cpu"


def _simulated(w: Weight) -> str | None:
    return SIMULATED.get(w.levels) if isinstance(w, Codebook) else None


def _key(host: Linear) -> Key:
    return id(host.w), host.acts


def _read(hosts: list[Linear], make: _Make, found: Mapping[str, str]) -> list[str]:
    return [host.name for host in hosts if host.name in found and id(host.w) in make.read - make.laid.keys()]
