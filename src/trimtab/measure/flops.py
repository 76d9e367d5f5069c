"""Floating-point operations of a call, counted at torch's dispatch: one multiplication and one addition are two.

Only products are counted (matrix products, convolutions, attention, packed integer products), as is the custom; norms,
activations and softmax are left out. Attention is counted over the whole square, masked or not, as it is computed.
``torch.utils.flop_counter`` does not know the CPU's attention and packed products and would count them as nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trimtab.core.reading import Reading

aten = torch.ops.aten
Formula = Callable[..., int]


def product(x: Tensor, w: Tensor) -> int:
    """(.., m, k) by (.., k, n), leading axes broadcast; vectors count as a row or a column."""
    rows = x.shape[-2] if x.ndim > 1 else 1
    columns = w.shape[-1] if w.ndim > 1 else 1
    batch = prod(max(pair) for pair in zip_longest(x.shape[-3::-1], w.shape[-3::-1], fillvalue=1))
    return 2 * batch * rows * int(x.shape[-1]) * columns


def linear(x: Tensor, w: Tensor, *_: Any) -> int:
    """(.., in) by (out, in)."""
    return 2 * x.numel() * w.shape[0]


def attention(q: Tensor, k: Tensor, v: Tensor) -> int:
    """(b, h, t, d), (b, g, s, d), (b, g, s, e) with h a multiple of g: 2 b h t s (d + e)."""
    b, h, t, d = q.shape
    return 2 * b * h * t * k.shape[2] * (d + v.shape[3])


def convolution(x: Tensor, w: Tensor, out: Tensor, transposed: bool) -> int:
    """Each output (input, if transposed) position meets the whole kernel (out, in / groups, ...)."""
    places = x if transposed else out
    return 2 * places.shape[0] * prod(places.shape[2:]) * w.numel()


# Operator -> formula over (arguments as given, result).
TABLE: Mapping[Any, Formula] = {
    aten.mm: lambda out, x, w, *_, **__: product(x, w),
    aten.bmm: lambda out, x, w, *_, **__: product(x, w),
    aten.mv: lambda out, x, w, *_, **__: product(x, w),
    aten.dot: lambda out, x, w, *_, **__: product(x, w),
    aten.matmul: lambda out, x, w, *_, **__: product(x, w),
    aten.addmm: lambda out, bias, x, w, *_, **__: product(x, w),
    aten.addmv: lambda out, bias, x, w, *_, **__: product(x, w),
    aten.baddbmm: lambda out, bias, x, w, *_, **__: product(x, w),
    aten.linear: lambda out, x, w, *_, **__: linear(x, w),
    aten._int_mm: lambda out, x, w, *_, **__: product(x, w),
    aten._weight_int8pack_mm: lambda out, x, *_, **__: 2 * x.shape[-1] * out.numel(),
    aten._weight_int4pack_mm: lambda out, x, *_, **__: 2 * x.shape[-1] * out.numel(),
    aten._weight_int4pack_mm_for_cpu: lambda out, x, *_, **__: 2 * x.shape[-1] * out.numel(),
    aten._dyn_quant_matmul_4bit: lambda out, x, *_, **__: 2 * x.shape[-1] * out.numel(),
    aten.convolution: lambda out, x, w, *rest, **__: convolution(x, w, out, bool(rest[4]) if len(rest) > 4 else False),
    aten.scaled_dot_product_attention: lambda out, q, k, v, *_, **__: attention(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu: lambda out, q, k, v, *_, **__: attention(q, k, v),
    aten._scaled_dot_product_flash_attention: lambda out, q, k, v, *_, **__: attention(q, k, v),
    aten._scaled_dot_product_efficient_attention: lambda out, q, k, v, *_, **__: attention(q, k, v),
    aten._scaled_dot_product_cudnn_attention: lambda out, q, k, v, *_, **__: attention(q, k, v),
    aten._scaled_dot_product_fused_attention_overrideable: lambda out, q, k, v, *_, **__: attention(q, k, v),
}


class Flops(TorchDispatchMode):
    """``with mode: ...`` then ``mode.total``, and ``mode.by_operator``."""

    def __init__(self) -> None:
        super().__init__()
        self.by_operator: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.by_operator.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        packet = getattr(func, "_overloadpacket", None)
        formula = TABLE.get(packet)
        if formula is None and hasattr(func, "decompose"):
            with self:
                made = func.decompose(*args, **given)
            if made is not NotImplemented:
                return made
        out = func(*args, **given)
        if formula is not None:
            given.pop("out", None)  # it is what the formula is given first
            self.by_operator[str(packet)] += formula(out, *args, **given)
        return out


def count(fn: Callable[[], object]) -> int:
    """The operations of one call of ``fn``."""
    mode = Flops()
    with mode:
        fn()
    return mode.total


def flops(name: str, fn: Callable[[], object]) -> Reading:
    """The operations of one call of ``fn`` as a reading."""
    return Reading(name, float(count(fn)), "flop")
