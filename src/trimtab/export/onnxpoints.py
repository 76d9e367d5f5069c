"""A graph's points in ONNX's own words.

A linear is DequantizeLinear over blocks of inputs, then MatMul: standard since opset 21, and fused into one kernel by
onnxruntime. A word table is read as bytes, row by row, and made numbers by elementary operations. A head that is tied
to it reads the same bytes, through onnxruntime's MatMulNBits or, where that has no such group, as integers that are
transposed at every call. Numbers and products are in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
import torch

from trimtab.core.pack import unpack
from trimtab.core.weight import Dense, Quantized
from trimtab.export.graph.points import DOMAIN, LEAF, LINEAR, Leaves
from trimtab.export.integers import codes_of, container, half, packed, zeros_of
from trimtab.export.onnxpen import Pen
from trimtab.export.onnxstore import Store

RUNTIME = "com.microsoft"
LARGE = 1024
"""Numbers from which a floating initializer goes to the file, in 16 bits where these hold it."""
INTEGERS = {
    (4, False): ir.DataType.UINT4,
    (8, False): ir.DataType.UINT8,
    (4, True): ir.DataType.INT4,
    (8, True): ir.DataType.INT8,
}
"""By bits and whether there is a sign."""


def ink(graph: ir.Graph, leaves: Leaves, tied: frozenset[str], store: Store) -> None:
    """Replace the points of ``graph``, in place; ``tied``: leaves that are a word table and a linear."""
    for value in list(graph.initializers.values()):
        _shorten(graph, value, store)
    for node in [node for node in graph if node.domain == DOMAIN]:
        key, source = node.attributes[LEAF].as_string(), node.inputs[0]
        assert source is not None
        pen, leaf = Pen(graph, store), leaves[key]
        point = Plain(pen, key, leaf) if isinstance(leaf, Dense) else Coded(pen, key, leaf)
        found = point.linear(source, key in tied) if node.op_type == LINEAR else point.rows(source)
        pen.swap(node, found)


def _shorten(graph: ir.Graph, value: ir.Value, store: Store) -> None:
    """A large floating initializer goes to the file and is cast where the graph begins."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < LARGE:
        return
    pen = Pen(graph, store)
    found = pen.cast(pen.number(f"{value.name}.stored", torch.from_numpy(tensor.numpy().copy())))
    ir.convenience.replace_all_uses_with(value, found)
    for node in pen.tape.nodes:
        graph.insert_before(graph[0], node)
    del graph.initializers[str(value.name)]


@dataclass(frozen=True)
class Plain:
    """A dense leaf under the name ``key``."""

    pen: Pen
    key: str
    w: Dense

    def linear(self, x: ir.Value, tied: bool) -> ir.Value:
        """x @ W.T; a tied W stands in the file as its table does."""
        if tied:
            turned = self.pen.op("Transpose", [self.pen.number(self.key, self.w.value)], perm=[1, 0])
        else:
            turned = self.pen.number(f"{self.key}.T", self.w.value.T)
        return self.pen.op("MatMul", [x, self.pen.cast(turned)])

    def rows(self, ids: ir.Value) -> ir.Value:
        """W[ids]."""
        return self.pen.cast(self.pen.op("Gather", [self.pen.number(self.key, self.w.value), ids]))


@dataclass(frozen=True)
class Coded:
    """A quantized leaf under the name ``key``."""

    pen: Pen
    key: str
    w: Quantized

    def linear(self, x: ir.Value, tied: bool) -> ir.Value:
        """x @ W.T."""
        if not tied:
            return self.pen.op("MatMul", [x, self._blocks()])
        group = self.w.group_size
        if group >= 16 and group & (group - 1) == 0:
            return self._by_runtime(x)
        return self.pen.op("MatMul", [x, self.pen.op("Transpose", [self._table()], perm=[1, 0])])

    def _blocks(self) -> ir.Value:
        """W.T, by blocks of inputs."""
        found = codes_of(self.w)
        signed = found.zero is None
        inputs = [self._integers(f"{self.key}.T.codes", found.codes.T, signed),
                  self.pen.cast(self.pen.number(f"{self.key}.T.scale", found.scale.T))]  # fmt: skip
        if found.zero is not None:
            inputs.append(self._integers(f"{self.key}.T.zero", found.zero.T, signed))
        return self.pen.op("DequantizeLinear", inputs, axis=0, block_size=self.w.group_size)

    def _table(self) -> ir.Value:
        """W, over the bytes of the word table."""
        inputs = [self._integers(f"{self.key}.codes", self._codes(), False), self._scale(),
                  self._integers(f"{self.key}.zero", zeros_of(self.w), False)]  # fmt: skip
        return self.pen.op("DequantizeLinear", inputs, axis=1, block_size=self.w.group_size)

    def _by_runtime(self, x: ir.Value) -> ir.Value:
        """onnxruntime's own product in float32 (accuracy level 1); the zeros of a row fill whole bytes."""
        (rows, width), bits, zero = self.w.shape, container(self.w.bits), zeros_of(self.w)
        inputs = [x, self._bytes(), self._scale()]
        if self.w.zero is not None or bits != self.w.bits:
            zero = np.pad(zero, ((0, 0), (0, 1))) if bits == 4 and zero.shape[1] % 2 else zero
            inputs.append(self._octets(f"{self.key}.zeros", zero, rows, zero.shape[1] * bits // 8))
        return self.pen.op("MatMulNBits", inputs, RUNTIME, K=width, N=rows, bits=bits, block_size=self.w.group_size,
                           accuracy_level=1)  # fmt: skip

    def rows(self, ids: ir.Value) -> ir.Value:
        """W[ids]: only the rows that are asked for are made numbers."""
        pen, group, last = self.pen, self.w.group_size, self.pen.integers([-1])
        codes = pen.op("Gather", [self._bytes(), ids])
        if container(self.w.bits) == 4:
            low = pen.op("BitwiseAnd", [codes, pen.integers(15, np.uint8)])
            high = pen.op("BitShift", [codes, pen.integers(4, np.uint8)], direction="RIGHT")
            pairs = pen.op("Concat", [pen.op("Unsqueeze", [part, last]) for part in (low, high)], axis=-1)
            codes = pen.op("Reshape", [pairs, pen.integers([0, 0, 0, group])])
        scale = pen.cast(pen.op("Gather", [self._scale(cast=False), ids]))
        steps = pen.op("Sub", [pen.cast(codes), self._origin(ids)])
        values = pen.op("Mul", [steps, pen.op("Unsqueeze", [scale, last])])
        return pen.op("Reshape", [values, pen.integers([0, 0, self.w.shape[1]])])

    def _origin(self, ids: ir.Value) -> ir.Value:
        """The zeros of the rows that are asked for, one for all on a symmetric grid."""
        pen, zero, key = self.pen, zeros_of(self.w), f"{self.key}.origin"
        if self.w.zero is None:
            return pen.integers(half(self.w), np.float32)
        found = pen.op("Gather", [pen.stored(key, key, lambda: zero, ir.DataType.UINT8, zero.shape), ids])
        return pen.cast(pen.op("Unsqueeze", [found, pen.integers([-1])]))

    def _codes(self) -> np.ndarray:
        return unpack(self.w.codes, self.w.bits).numpy()

    def _bytes(self) -> ir.Value:
        """Codes (out, groups, bytes of a group)."""
        shape = (*self.w.scale.shape, self.w.group_size * container(self.w.bits) // 8)
        return self._octets(f"{self.key}.codes", self._codes(), *shape)

    def _scale(self, cast: bool = True) -> ir.Value:
        found = self.pen.number(f"{self.key}.scale", self.w.scale)
        return self.pen.cast(found) if cast else found

    def _octets(self, key: str, values: np.ndarray, *shape: int) -> ir.Value:
        return self.pen.stored(key, key, partial(packed, values, container(self.w.bits)), ir.DataType.UINT8, shape)

    def _integers(self, key: str, values: np.ndarray, signed: bool) -> ir.Value:
        bits = container(self.w.bits)
        return self.pen.stored(f"{key}.int", key, partial(packed, values, bits), INTEGERS[bits, signed], values.shape)
