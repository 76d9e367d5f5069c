"""A torch module becomes an ONNX graph: any batch, any length, any past."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

OPSET = 21
"""The first in which DequantizeLinear has blocks."""
Axes = Sequence[str | int]


@dataclass(frozen=True)
class Port:
    """An input or output: its name and its axes, words for those of any length."""

    name: str
    axes: Axes


@torch.no_grad()
def capture(module: nn.Module, given: tuple[Any, ...], inputs: Sequence[Port], outputs: Sequence[Port]) -> ir.Model:
    """The graph of ``module`` for inputs like ``given`` (tensors, or lists of them), whose axes that ``inputs`` name by
    a word may have any length."""
    dynamic = _like(given, iter(inputs))
    with quiet():
        program = torch.onnx.export(
            module.eval(), given, dynamo=True, opset_version=OPSET, dynamic_shapes=dynamic, verbose=False,
            input_names=[port.name for port in inputs], output_names=[port.name for port in outputs],
        )  # fmt: skip
    assert program is not None
    model = program.model
    for value in (output for node in model.graph for output in node.outputs):
        value.shape = None  # in names of the tracer; every engine works them out again
    for values, ports in ((model.graph.inputs, inputs), (model.graph.outputs, outputs)):
        for value, port in zip(values, ports, strict=True):
            value.name, value.shape = port.name, ir.Shape(port.axes)
    ClearMetadataAndDocStringPass()(model)  # the exporter notes there where code lies on this machine
    return model


def _like(given: Any, ports: Iterator[Port]) -> Any:
    """For each tensor, its axes of any length."""
    if isinstance(given, torch.Tensor):
        free = torch.export.Dim.DYNAMIC
        return {at: free for at, size in enumerate(next(ports).axes) if isinstance(size, str)}
    return type(given)(_like(one, ports) for one in given)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's talk of packages that are not needed, and of its own deprecations."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
