"""New nodes of an ONNX graph, and what they read of the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor

from trimtab.export.onnxstore import Store

FLOAT = int(ir.DataType.FLOAT)


class Pen:
    """Collects nodes in their order on ``tape``; initializers go to the graph at once, each once."""

    def __init__(self, graph: ir.Graph, store: Store) -> None:
        self.graph, self.store = graph, store
        self.tape = ir.tape.Tape()

    def op(self, kind: str, inputs: Sequence[ir.Value | None], domain: str = "", **attributes: Any) -> ir.Value:
        return self.tape.op(kind, inputs, attributes, domain=domain)

    def keep(self, name: str, make: Callable[[str], ir.Value]) -> ir.Value:
        """The initializer of that name."""
        if name not in self.graph.initializers:
            self.graph.register_initializer(make(name))
        return self.graph.initializers[name]

    def stored(
        self, name: str, key: str, data: Callable[[], NDArray[Any]], dtype: ir.DataType, shape: Sequence[int]
    ) -> ir.Value:
        """An initializer over the bytes under ``key``."""
        return self.keep(name, lambda name: self.store.value(name, key, data, dtype, shape))

    def number(self, name: str, value: Tensor) -> ir.Value:
        """Floating numbers as they lie in the file, 16 bits where these hold them; ``cast`` makes them float32."""
        return self.keep(name, lambda name: self.store.number(name, value))

    def cast(self, value: ir.Value) -> ir.Value:
        """``value`` in float32."""
        return value if value.dtype == ir.DataType.FLOAT else self.op("Cast", [value], to=FLOAT)

    def integers(self, value: int | Sequence[int], dtype: Any = np.int64) -> ir.Value:
        """A small constant."""
        data: NDArray[Any] = np.array(value, dtype)
        name = f"constant.{data.dtype}.{'x'.join(map(str, data.reshape(-1).tolist()))}.{data.ndim}"
        return self.keep(name, lambda name: ir.Value(name=name, const_value=ir.tensor(data, name=name)))

    def swap(self, old: ir.Node, found: ir.Value) -> None:
        """The nodes written so far stand in place of ``old``, and ``found`` in place of its output."""
        ir.convenience.replace_nodes_and_values(
            self.graph, old, [old], list(self.tape.nodes), [old.outputs[0]], [found]
        )
        self.tape = ir.tape.Tape()
