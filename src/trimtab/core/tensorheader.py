"""The header of a safetensors file: which tensors it holds and where, every bound checked before a byte is used."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trimtab.core.errors import BadInput

HEADER_LIMIT = 100_000_000
DTYPES: Mapping[str, torch.dtype] = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E8M0": torch.float8_e8m0fnu, "I16": torch.int16, "U16": torch.uint16,
    "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32, "U32": torch.uint32, "F32": torch.float32,
    "C64": torch.complex64, "F64": torch.float64, "I64": torch.int64, "U64": torch.uint64,
}  # fmt: skip
"""What the format calls each dtype, in its own order: tensors are sorted by it, the last first, then by name."""


@dataclass(frozen=True)
class Entry:
    """A tensor in a safetensors file: its bytes are [begin, end) behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file, every bound checked: header length, types, sizes, gaps, end of file.

    Raises BadInput that names the file and what is wrong with it.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER_LIMIT, size - 8):
            raise BadInput(f"{path}: corrupt or truncated safetensors: {size} bytes cannot hold a header of {length}")
        try:
            table = json.loads(file.read(length))
        except ValueError as error:
            raise BadInput(f"{path}: corrupt safetensors: the header is not JSON") from error
    if not isinstance(table, dict):
        raise BadInput(f"{path}: corrupt safetensors: the header is no table of tensors")
    found = {name: _entry(path, name, row) for name, row in table.items() if name != "__metadata__"}
    reached = 0
    for name, entry in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != reached:
            raise BadInput(f"{path}: corrupt safetensors: {name} begins at {entry.begin}, not at {reached}")
        reached = entry.end
    if reached != size - 8 - length:
        raise BadInput(f"{path}: truncated or corrupt safetensors: {size - 8 - length} bytes of tensors, not {reached}")
    return found


def _entry(path: Path, name: str, row: Any) -> Entry:
    try:
        entry = Entry(row["dtype"], tuple(map(int, row["shape"])), *map(int, row["data_offsets"]))
        width = DTYPES[entry.dtype].itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: corrupt safetensors: the entry of {name} is {str(row)[:80]}") from error
    if min(entry.shape, default=0) < 0 or entry.end - entry.begin != math.prod(entry.shape) * width:
        raise BadInput(
            f"{path}: corrupt safetensors: {name} of {entry.dtype} {list(entry.shape)} in "
            f"{entry.end - entry.begin} bytes"
        )
    return entry
