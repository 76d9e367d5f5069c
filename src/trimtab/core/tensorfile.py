"""Writing safetensors files, tensor by tensor: what is not in memory is read when its turn comes, and let go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from trimtab.core.tensorheader import DTYPES

ORDER = list(DTYPES.values())


@runtime_checkable
class Late(Protocol):
    """A tensor that is not in memory yet: ``dense`` reads or makes it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def dense(self) -> Tensor: ...


def save_tensors(path: Path, tensors: Mapping[str, Tensor | Late], about: Mapping[str, str] | None = None) -> None:
    """``tensors`` as a safetensors file with ``about`` in its header, the bytes that the safetensors library would
    write (https://github.com/huggingface/safetensors#format); here no second copy of them all is held.

    Tensors that share memory are written apart, each whole. Raises OSError as the system does (a full disk).
    """
    order = _order(tensors)
    with path.open("wb") as file:
        file.write(_header(tensors, order, about))
        for name in order:
            held = tensors[name]
            file.write(memory(held if isinstance(held, Tensor) else held.dense()))


def size_of(tensors: Mapping[str, Tensor | Late], about: Mapping[str, str] | None = None) -> int:
    """The bytes of the file that ``save_tensors`` would write; nothing is written."""
    held = sum(torch.Size(one.shape).numel() * one.dtype.itemsize for one in tensors.values())
    return len(_header(tensors, _order(tensors), about)) + held


def _order(tensors: Mapping[str, Tensor | Late]) -> list[str]:
    return sorted(tensors, key=lambda name: (-ORDER.index(tensors[name].dtype), name))


def memory(value: Tensor) -> memoryview:
    """The bytes of a tensor, row by row; its own memory where it lies so."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _header(tensors: Mapping[str, Tensor | Late], order: list[str], about: Mapping[str, str] | None) -> bytes:
    names = {dtype: name for name, dtype in DTYPES.items()}
    table: dict[str, object] = {} if about is None else {"__metadata__": dict(sorted(about.items()))}
    end = 0
    for name in order:
        shape, dtype = list(tensors[name].shape), tensors[name].dtype
        begin, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        table[name] = {"dtype": names[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
