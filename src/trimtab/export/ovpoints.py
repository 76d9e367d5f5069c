"""A graph's points in OpenVINO's operations, as its front end meets them while it reads the graph.

A stored matrix is what OpenVINO calls a compressed weight: Constant (u4, i4, u8, i8) -> Convert -> Subtract (zero) ->
Multiply (scale) -> Reshape. The plugin reads the codes as they are; nothing is folded into floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino import opset13 as op
from openvino.frontend.onnx import ConversionExtension
from torch import Tensor

from trimtab.core.weight import Dense, Quantized
from trimtab.export.graph.points import DOMAIN, LEAF, LINEAR, ROWS, Leaves
from trimtab.export.integers import codes_of, narrow, packed

INTEGERS = {(4, False): ov.Type.u4, (8, False): ov.Type.u8, (4, True): ov.Type.i4, (8, True): ov.Type.i8}
FLOATS = {torch.float32: ov.Type.f32, torch.float16: ov.Type.f16, torch.bfloat16: ov.Type.bf16}
LARGE = 1024
"""Numbers from which a floating constant is looked at."""


class Points:
    """Makes each leaf once for a model. ``held``: arrays that OpenVINO reads until the model is saved."""

    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves
        self.held: list[Any] = []
        self.made: dict[str, Any] = {}

    def extensions(self) -> list[ConversionExtension]:
        """For ``Core.add_extension``."""
        return [ConversionExtension(LINEAR, DOMAIN, self.linear), ConversionExtension(ROWS, DOMAIN, self.rows)]

    def linear(self, node: Any) -> Any:
        """x @ W.T."""
        return [op.matmul(node.get_input(0), self.weight(node.get_attribute(LEAF)), False, True).output(0)]

    def rows(self, node: Any) -> Any:
        """W[ids]."""
        table = self.weight(node.get_attribute(LEAF))
        return [op.gather(table, node.get_input(0), op.constant(np.int64(0))).output(0)]

    def weight(self, key: str) -> Any:
        """W (out, in) in float32."""
        if key not in self.made:
            leaf = self.leaves[key]
            self.made[key] = self.number(leaf.value) if isinstance(leaf, Dense) else self.coded(leaf)
        return self.made[key]

    def coded(self, w: Quantized) -> Any:
        """(codes - zero) * scale, by groups."""
        codes, zero, scale, bits = codes_of(w)
        groups = [*scale.shape, w.group_size]
        values = op.convert(self.integers(codes, bits, zero is None, groups), "f32")
        if zero is not None:
            values = op.subtract(values, op.convert(self.integers(zero, bits, False, [*zero.shape, 1]), "f32"))
        values = op.multiply(values, self.number(scale[..., None]))
        return op.reshape(values, op.constant(np.array(w.shape, np.int64)), False)

    def integers(self, values: NDArray[np.uint8], bits: int, signed: bool, shape: list[int]) -> Any:
        """A constant of ``bits``."""
        self.held.append(np.ascontiguousarray(packed(values, bits)))
        return op.constant(ov.Tensor(self.held[-1], ov.Shape(shape), INTEGERS[bits, signed]))

    def number(self, value: Tensor) -> Any:
        """Floats in the narrowest form that holds them all, as float32."""
        dtype = narrow(value)
        raw = value.detach().to(dtype).contiguous()
        self.held.append(raw.view(torch.int16).numpy() if dtype == torch.bfloat16 else raw.numpy())
        found = op.constant(ov.Tensor(self.held[-1], ov.Shape(list(raw.shape)), FLOATS[dtype]))
        return found if dtype == torch.float32 else op.convert(found, "f32")

    def shorten(self, model: ov.Model) -> None:
        """Large floating constants that came along with the graph, in 16 bits where these hold them."""
        for node in model.get_ops():
            if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.f32:
                value = torch.from_numpy(node.get_data().copy())
                if value.numel() >= LARGE and narrow(value) != torch.float32:
                    node.output(0).replace(self.number(value).output(0))
