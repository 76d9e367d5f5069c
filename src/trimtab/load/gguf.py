"""GGUF files: checked, then converted once into a safetensors folder in the cache (the conversion takes minutes)."""

from __future__ import annotations

import hashlib
import math
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from trimtab.core.errors import BadInput
from trimtab.load.cache import new_folder, place
from trimtab.load.gguf_config import complete, has_words
from trimtab.load.license import papers as papers_of

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY, LIMIT = 8, 9, 1 << 31


@dataclass(frozen=True)
class Block:
    """A tensor of a GGUF file: ``offset`` from the start of the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Reader:
    """Little-endian values, never past the end of the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def take(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise EOFError(f"{count} bytes wanted at {self.file.tell()} of {self.size}")
        return self.file.read(count)

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or depth > 4:
            raise ValueError(f"a value of unknown type {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in SCALARS:  # skipped as a whole
            self.take(count * struct.calcsize(f"<{SCALARS[inner]}"))
            return None
        for _ in range(count):
            self.value(inner, depth + 1)
        return None


def check_gguf(path: Path) -> dict[str, Block]:
    """The tensors of a GGUF file, every one whole and inside it. Raises BadInput that names the file and what is
    wrong: no GGUF magic, an unknown version or type, an end before its time."""
    sizes = _sizes()
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            reader = _Reader(file, size)
            if reader.take(4) != b"GGUF":
                raise ValueError("it does not begin with GGUF")
            if (version := reader.number("I")) not in (2, 3):
                raise ValueError(f"version {version}; accepted: 2 and 3")
            tensors, pairs = reader.number("Q"), reader.number("Q")
            meta = {}
            for _ in range(pairs):
                key = reader.text()
                meta[key] = reader.value(reader.number("I"))
            blocks = [_block(reader) for _ in range(tensors)]
            _describes_a_model(meta)
            step = meta.get("general.alignment") or 32
            start = -(-file.tell() // step) * step
        for block in blocks:
            if block.kind not in sizes:
                raise ValueError(f"{block.name} has the unknown type {block.kind}")
            count, width = sizes[block.kind]
            end = start + block.offset + math.prod(block.shape) // count * width
            if end > size:
                raise EOFError(f"{block.name} ends at {end} of {size} bytes")
    except EOFError as error:
        raise BadInput(f"{path}: truncated GGUF: {error}") from error
    except (ValueError, TypeError, struct.error, OverflowError, MemoryError) as error:
        raise BadInput(f"{path}: not a GGUF file that can be read: {error}") from error
    return {block.name: block for block in blocks}


def _describes_a_model(meta: Mapping[str, Any]) -> None:
    """Without these keys the library would take its default sizes, and fill billions of weights with random numbers."""
    kind = meta.get("general.architecture")
    wanted = ["general.architecture", f"{kind}.block_count", f"{kind}.embedding_length"]
    lost = [key for key in wanted if meta.get(key) is None]
    if lost:
        raise ValueError(f"its metadata lacks {', '.join(lost)}")


def _block(reader: _Reader) -> Block:
    name, axes = reader.text(), reader.number("I")
    if axes > 8:
        raise ValueError(f"{name} has {axes} axes")
    shape = tuple(reader.number("Q") for _ in range(axes))
    return Block(name, shape, reader.number("I"), reader.number("Q"))


def _sizes() -> dict[int, tuple[int, int]]:
    """Type number -> (weights in a block, bytes of a block), from the format's own package."""
    try:
        from gguf import GGML_QUANT_SIZES
    except ModuleNotFoundError as error:
        raise BadInput(f"model: reading GGUF needs {error.name}; next: pip install 'trimtab[models]'") from error
    return {int(kind): (int(count), int(width)) for kind, (count, width) in GGML_QUANT_SIZES.items()}


def converted(key: str, dtype: torch.dtype) -> Path:
    """Where the folder of a file with the hash ``key`` is kept. The number counts our readers: a folder that an earlier
    one made (without biases, rope scaling, head sizes) is not opened again."""
    return place("gguf", f"{key}-{str(dtype).removeprefix('torch.')}-2")


def convert(path: Path, dtype: torch.dtype = torch.bfloat16, papers: Mapping[str, Path] | None = None) -> Path:
    """A folder in the library's layout with the file's weights made dense, from the cache where it was made before.

    bfloat16 unless given: what a GGUF file of 8 bits or less was made from. ``papers``: model card, licence and notice
    to put beside it, by default those beside the file. Raises BadInput where the file cannot be used.
    """
    check_gguf(path)
    with path.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = converted(key, dtype)
    if folder.is_dir():
        return folder
    with new_folder(folder) as fresh:
        _dense(path, dtype, fresh)
        found = papers if papers is not None else {
            paper.name: paper for paper in [*papers_of(path.parent), path.parent / "README.md"] if paper.is_file()
        }  # fmt: skip
        for name, paper in found.items():
            shutil.copyfile(paper, fresh / name)
    return folder


def _dense(path: Path, dtype: torch.dtype, folder: Path) -> None:
    """Have the library read the file and save it; it is its own unmodified model, so it may save itself."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    here: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        config = complete(path, AutoConfig.from_pretrained(path.parent, **here))
        model, info = AutoModelForCausalLM.from_pretrained(
            path.parent, config=config, dtype=dtype, quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True, **here,
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **here) if has_words(path) else None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, NotImplementedError) as error:
        raise BadInput(f"{path}: transformers cannot read this GGUF file: {error}") from error
    if info["missing_keys"]:
        raise BadInput(f"{path}: tensors are missing: {', '.join(sorted(info['missing_keys'])[:12])}")
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
