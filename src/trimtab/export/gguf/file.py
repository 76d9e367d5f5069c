"""A GGUF file: keys first, then its tensors, which are made and written one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import trimtab
from trimtab.export.gguf.entry import Entry
from trimtab.load.license import UNKNOWN
from trimtab.load.loaded import Source

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 14, "BF16": 32}
"""llama.cpp's number for a file most of whose weights have that form."""


@contextmanager
def save(path: Path, arch: str, source: Source, entries: Sequence[Entry]) -> Iterator[Any]:
    """The package's writer, for the keys of the architecture; behind the block the file is written and closed."""
    import gguf

    writer: Any = gguf.GGUFWriter(path, arch)
    writer.add_type(gguf.GGUFType.MMPROJ if arch == "clip" else gguf.GGUFType.MODEL)
    writer.add_name(source.id)
    writer.add_description(f"trimmed by Trimtab {trimtab.__version__}")
    if source.license != UNKNOWN:
        writer.add_license(source.license)
    writer.add_file_type(TYPES[most(entries)])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    yield writer
    for entry in entries:
        writer.add_tensor_info(entry.name, entry.byte_shape, np.dtype(np.uint8), prod(entry.byte_shape),
                               gguf.GGMLQuantizationType[entry.kind])  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for entry in entries:
        writer.write_tensor_data(entry.make().numpy())
    writer.close()


def most(entries: Sequence[Entry]) -> str:
    """The form of most weights in matrices."""
    sizes: Counter[str] = Counter()
    for entry in entries:
        if len(entry.shape) > 1:
            sizes[entry.kind] += prod(entry.shape)
    return sizes.most_common(1)[0][0]
