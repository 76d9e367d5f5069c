"""Activation memory: the most bytes that a call's own tensors hold at once, counted at torch's dispatch.

    peak = max over time of the sum of bytes of live storages that the call has made

A storage counts once however many views it has, from the operator that made it until its last tensor is gone; weights,
inputs and whatever else was there before do not count. With gradients on, what is saved for the backward pass lives on
and is therefore in it; so is what the call leaves behind (its result, a cache), whose bytes are ``now`` at the end.

Exact for what torch allocates for tensors; not seen are the workspace inside a kernel and the allocator's gaps. On the
meta device nothing is allocated and the same is counted. There attention has no kernel: under ``torch.inference_mode``
it counts as a fused one, elsewhere it is spelt out with all its scores, as the library's ``eager`` would.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trimtab.core.linear import Linear
from trimtab.core.reading import Reading

FUSED = torch.ops.aten.scaled_dot_product_attention


class Live(TorchDispatchMode):
    """``with mode: ...`` then ``mode.peak``, and ``mode.now``: bytes that are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._made: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "_overloadpacket", None) is not FUSED and hasattr(func, "decompose"):
            with self:
                made = func.decompose(*args, **given)
            if made is not NotImplemented:
                return made
        out = func(*args, **given)
        known = {_key(one) for one in tree_leaves((args, given)) if isinstance(one, Tensor)}
        for one in tree_leaves(out):
            if isinstance(one, Tensor) and _key(one) not in known:
                self._see(one)
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._made:
            return

        def gone(_: object) -> None:
            self.now -= size
            self._made.pop(key, None)

        self._made[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def stand_ins(linears: Sequence[Linear]) -> Iterator[None]:
    """Within, every linear multiplies by one and the same block of small random numbers, of its own shape: what is
    allocated depends on shapes alone, and a reference that makes a dense matrix out of codes would count it."""
    most = max((math.prod(host.w.shape) for host in linears), default=0)
    blocks = {dtype: (0.02 * torch.randn(most)).to(dtype) for dtype in {host.w.dtype for host in linears}}

    def multiply(host: Linear, x: Tensor, bias: Tensor | None = None) -> Tensor:
        block = blocks[host.w.dtype][: math.prod(host.w.shape)].view(host.w.shape)
        return F.linear(x, block.to(x.dtype), bias)

    kept = [host.kernel for host in linears]
    try:
        for host in linears:
            host.kernel = partial(multiply, host)
        yield
    finally:
        for host, kernel in zip(linears, kept, strict=True):
            host.kernel = kernel


def activations(fn: Callable[[], object]) -> tuple[int, int]:
    """Bytes at the peak of one call of ``fn``, and held by what it returns or keeps when it has returned."""
    mode = Live()
    with mode:
        kept = fn()
    held = mode.now
    del kept
    return mode.peak, held


def reading(name: str, fn: Callable[[], object]) -> Reading:
    """The peak of one call as a reading."""
    return Reading(name, float(activations(fn)[0]), "bytes")
