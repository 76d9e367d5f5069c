"""The operations of a call by name, part and kind, traced on the meta device: nothing is computed, no weight is there.

Where a tensor on meta meets a real one the result is on meta, so that positions and masks, which are small and decide
what is seen, stay real while everything of the model's widths is only shapes. Hosts say what they would multiply,
attention what it would be given; every other operator of torch is counted where it is dispatched, with the bytes that
it reads and writes, views apart. A real model is traced as well, but answers nothing meaningful meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trimtab.anatomy.base import Anatomy
from trimtab.core.errors import Refused
from trimtab.core.linear import Embedding, Host, Linear
from trimtab.core.weight import name_of
from trimtab.measure import flops
from trimtab.measure.roofline import Operation
from trimtab.measure.work import Piece, pieces

Forms = Mapping[str, Sequence[Piece]]
NOTHING: Forms = MappingProxyType({})
MADE = ("aten.arange", "aten.ones", "aten.zeros", "aten.full")
"""Operators that make a tensor from nothing: it is real."""
UNSEEN = ("aten.empty", "aten.new_empty", "aten.empty_like", "aten.empty_strided", "aten.detach")
"""Operators that move nothing."""


class Trace:
    """``operations`` so far, in running order; ``here``: the module that runs. ``forms``: by host, what it would
    multiply by if it were stored otherwise than it is."""

    def __init__(self, anatomy: Anatomy, forms: Forms = NOTHING) -> None:
        self.anatomy, self.forms = anatomy, forms
        self.operations: list[Operation] = []
        self.names = {module: name for name, module in anatomy.model.named_modules()}
        self.stack: list[str] = []

    @property
    def here(self) -> str:
        return self.stack[-1] if self.stack else ""

    def part(self, name: str) -> str:
        """The part that a module belongs to; ``other`` outside all."""
        found = [prefix for prefix in self.anatomy.PARTS if name == prefix or name.startswith(f"{prefix}.")]
        return self.anatomy.PARTS[max(found, key=len)] if found else "other"

    def add(self, name: str, kind: str, dtype: torch.dtype, **more: Any) -> None:
        """An operation of the module ``name``."""
        given: dict[str, Any] = {"flops": 0.0, "weights": 0.0, "activations": 0.0} | more
        self.operations.append(Operation(name, self.part(name), kind=kind, dtype=name_of(dtype), **given))


@contextmanager
def tracing(anatomy: Anatomy, forms: Forms = NOTHING) -> Iterator[Trace]:
    """``with tracing(anatomy) as trace: ...`` then ``trace.operations``. Not for two models at a time."""
    trace = Trace(anatomy, forms)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_named(trace))
        stack.enter_context(_stubs(trace))
        stack.enter_context(_Attention(trace))
        stack.enter_context(_Operators(trace))
        yield trace


@contextmanager
def _named(trace: Trace) -> Iterator[None]:
    """The path of the innermost module that runs."""

    def enter(module: nn.Module, _: Any) -> None:
        trace.stack.append(trace.names.get(module, trace.here))

    def leave(*_: Any) -> None:
        trace.stack.pop()

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _stubs(trace: Trace) -> Iterator[None]:
    """In the place of every host's kernel one that notes what it is given."""
    hosts = [module for module in trace.anatomy.model.modules() if isinstance(module, Host)]
    before = [(host, host.kernel) for host in hosts]
    for host in hosts:
        host.kernel = _product(trace, host) if isinstance(host, Linear) else _lookup(trace, host)
    try:
        yield
    finally:
        for host, kernel in before:
            host.kernel = kernel


def _product(trace: Trace, host: Linear) -> Callable[..., Tensor]:
    def kernel(x: Tensor, bias: Tensor | None = None) -> Tensor:
        rows = x.numel() // x.shape[-1]
        for one in trace.forms.get(host.name) or pieces(host):
            out, width = one.shape
            moved = float(rows * (out + width) * x.element_size())
            trace.add(host.name, "product", x.dtype, flops=2.0 * rows * out * width, weights=one.bytes, rows=rows,
                      activations=moved, shape=one.shape, form=one.form)  # fmt: skip
        return torch.empty(*x.shape[:-1], host.out_features, dtype=x.dtype, device="meta")

    return kernel


def _lookup(trace: Trace, host: Host) -> Callable[..., Tensor]:
    assert isinstance(host, Embedding)

    def kernel(ids: Tensor) -> Tensor:
        width, dtype = host.w.shape[1], host.w.dtype
        trace.add(host.name, "embedding", dtype, activations=2.0 * ids.numel() * width * dtype.itemsize)
        return torch.empty(*ids.shape, width, dtype=dtype, device="meta")

    return kernel


class _Attention(TorchFunctionMode):
    """Scaled dot-product attention as one operation; on meta it would be taken apart."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **dict(kwargs or {}))
        return self.attend(*args, **dict(kwargs or {}))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        (batch, heads, queries, _), keys = q.shape, k.shape[2]
        size, seen = q.element_size(), (queries + 1) / (2 * queries) if is_causal and queries == keys else 1.0
        if attn_mask is not None and not attn_mask.is_meta and attn_mask.dtype == torch.bool:
            seen = float(attn_mask.double().mean())
        read, out = float(k.numel() + v.numel()) * size, (batch, heads, queries, v.shape[3])
        self.trace.add(self.trace.here, "attention", q.dtype, flops=float(flops.attention(q, k, v)), cache=read,
                       activations=float(q.numel() + batch * heads * queries * v.shape[3]) * size, share=seen,
                       rows=queries, shape=(heads, k.shape[1]), entries=keys,
                       masked=attn_mask is not None)  # fmt: skip
        return torch.empty(out, dtype=q.dtype, device="meta")


class _Operators(TorchDispatchMode):
    """Every other operator; what meets a tensor on meta goes there."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given: tuple[Any, Any] = (tuple(args), dict(kwargs or {}))
        if any(one.is_meta for one in _tensors(*given)):
            given = tuple(map(_to_meta, given[0])), {name: _to_meta(one) for name, one in given[1].items()}
        packet = str(func._overloadpacket)
        if packet in MADE and given[1].get("device") is not None:  # places and counts, wherever they are asked for
            given[1]["device"] = torch.device("cpu")
        if packet == "aten._local_scalar_dense" and given[0][0].is_meta:
            raise Refused(f"trace: {self.trace.here or 'the model'} asks for a value where only shapes are known")
        out = func(*given[0], **given[1])
        if packet not in UNSEEN and not _is_view(func):
            self.note(func, packet, given, out)
        return out

    def note(self, func: Any, packet: str, given: tuple[Any, Any], out: Any) -> None:
        """Bytes of what goes in, each tensor once, and of what comes out."""
        read = {id(one): one for one in _tensors(*given)}
        made = list(_tensors((out,), {}))
        if not made or (formula := flops.TABLE.get(func._overloadpacket)) is None:
            count = 0.0
        else:
            count = float(formula(out, *given[0], **{k: v for k, v in given[1].items() if k != "out"}))
        moved = sum(map(_bytes, read.values())) + sum(_bytes(one) for one in made if id(one) not in read)
        dtype = made[0].dtype if made else torch.float32
        self.trace.add(self.trace.here, packet, dtype, flops=count, activations=float(moved),
                       rows=made[0].numel() if made else 0)  # fmt: skip


def _tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """An operator of torch has tensors and lists of them, and nothing deeper."""
    for one in (*args, *kwargs.values()):
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from (each for each in one if isinstance(each, Tensor))


def _to_meta(one: Any) -> Any:
    if isinstance(one, list | tuple):
        return type(one)(map(_to_meta, one))
    if isinstance(one, Tensor):
        return one if one.is_meta else one.to("meta")
    return torch.device("meta") if isinstance(one, torch.device) else one


def _bytes(one: Tensor) -> int:
    """What is there of it: less than its shape says where it was expanded."""
    return min(one.numel() * one.element_size(), one.untyped_storage().nbytes())


def _is_view(func: Any) -> bool:
    told = [one.alias_info for one in func._schema.returns]
    return any(one is not None and not one.is_write for one in told)
