"""Numbers of ONNX graphs in one file beside them, each once, however many graphs read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.export.integers import narrow

FILE = "model.onnx_data"
ALIGN = 64
TYPES = {torch.float32: ir.DataType.FLOAT, torch.float16: ir.DataType.FLOAT16, torch.bfloat16: ir.DataType.BFLOAT16}


class Store:
    """Opened by ``with``; ``place`` writes bytes and says where, the same key never twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Store:
        self.file = (self.folder / FILE).open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()

    def place(self, key: str, data: Callable[[], NDArray[Any]]) -> tuple[int, int]:
        """(offset, bytes)."""
        if key not in self.places:
            found = np.ascontiguousarray(data())
            self.file.write(b"\0" * (-self.file.tell() % ALIGN))
            self.places[key] = self.file.tell(), found.nbytes
            self.file.write(found.tobytes())
        return self.places[key]

    def value(
        self, name: str, key: str, data: Callable[[], NDArray[Any]], dtype: ir.DataType, shape: Sequence[int]
    ) -> ir.Value:
        """The initializer ``name`` over the bytes under ``key``."""
        offset, length = self.place(key, data)
        tensor = ir.ExternalTensor(FILE, offset, length, dtype, shape=ir.Shape(shape), name=name, base_dir=self.folder)
        return ir.Value(name=name, const_value=tensor, type=ir.TensorType(dtype), shape=ir.Shape(shape))

    def number(self, name: str, value: Tensor) -> ir.Value:
        """Floating numbers in the narrowest form that holds them all."""
        dtype = narrow(value)
        raw = value.detach().to(dtype).contiguous()
        data = raw.view(torch.int16) if dtype == torch.bfloat16 else raw  # numpy has no bfloat16
        return self.value(name, name, data.numpy, TYPES[dtype], tuple(value.shape))
