"""Let the reference go where a kernel has a copy of its own: such a model answers, and can do nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from trimtab.core.build import build
from trimtab.core.linear import Embedding, Host, Linear
from trimtab.core.weight import Weight
from trimtab.runtime.compiled import NAMES, Compiled, Rows
from trimtab.runtime.compose import Made, compose, thick
from trimtab.runtime.level import level
from trimtab.runtime.plan.layout import Laid


def let_go(model: nn.Module, laid: Mapping[int, Laid]) -> set[str]:
    """By id of a weight, or of a leaf of one, what the compiled library reads: hosts that run on nothing else, and word
    tables, keep the shape of theirs only. A matrix that has no kernel yet gets one. Returns the names of the linears
    that let go."""
    here = level() or 0
    gone: list[Host] = []

    def pack(leaf: Weight) -> Made:
        return NAMES[laid[id(leaf)].kind], sys.maxsize, Compiled(laid[id(leaf)], here)

    for host in model.modules():
        if isinstance(host, Linear) and host.acts is None:
            leaves = thick(host.w)
            if leaves and all(id(leaf) in laid for leaf in leaves):
                if host.kernel is None:
                    host.kernel = compose(host.w, pack)[2]
                gone.append(host)
        elif isinstance(host, Embedding) and id(host.w) in laid:
            host.kernel = Rows(laid[id(host.w)], host.w.dtype)
            gone.append(host)
    drop(gone)
    return {host.name for host in gone if isinstance(host, Linear)}


def drop(hosts: Iterable[Host]) -> None:
    """Leave the shape of their weights only, on the meta device."""
    empty: dict[int, Weight] = {}
    held = [(host, host.w) for host in hosts]
    with torch.device("meta"):
        for host, w in held:
            if id(w) not in empty:
                empty[id(w)] = build(w.spec())
            host.w = empty[id(w)]
