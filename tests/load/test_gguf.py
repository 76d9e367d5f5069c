"""GGUF files are checked before anything parses them, converted once, and open as what they are."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from trimtab.core.errors import BadInput
from trimtab.load import cache, open_source
from trimtab.load.gguf import check_gguf, converted


def write(path: Path, kind: str = "made-up") -> dict[str, np.ndarray]:
    """A file with a few values of every kind, one float tensor and one of 8-bit blocks."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.add_uint32("some.number", 7)
    writer.add_string("some.text", "abc")
    writer.add_array("some.words", ["a", "bc", "def"])
    writer.add_array("some.floats", [0.5, 1.5])
    tensors = {"first": random.standard_normal((3, 64)).astype(np.float32), "second": random.standard_normal((5, 64))}
    writer.add_tensor("first", tensors["first"])
    writer.add_tensor(
        "second", gguf.quants.quantize(tensors["second"].astype(np.float32), gguf.GGMLQuantizationType.Q8_0),
        raw_dtype=gguf.GGMLQuantizationType.Q8_0,
    )  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_whole_file_is_read_as_its_own_package_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    found = check_gguf(tmp_path / "a.gguf")
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert set(found) == set(theirs) == {"first", "second"}
    for name, block in found.items():
        assert block.shape == tuple(theirs[name].shape.tolist())
        assert block.kind == int(theirs[name].tensor_type)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    data = (tmp_path / "a.gguf").read_bytes()
    last = max(t.data_offset + t.n_bytes for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors)
    for length in [0, 3, 10, 30, 100, 200, 260, last - 200, last - 1]:
        (tmp_path / "cut.gguf").write_bytes(data[:length])
        with pytest.raises(BadInput, match=r"cut\.gguf: (truncated|not a) GGUF"):
            open_source(tmp_path / "cut.gguf")
    (tmp_path / "cut.gguf").write_bytes(data[:last])
    check_gguf(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (0, b"GGML", "does not begin with GGUF"),
        (4, struct.pack("<I", 1), "version 1"),
        (8, struct.pack("<Q", 1 << 60), "truncated"),
        (16, struct.pack("<Q", 1 << 60), "GGUF"),
        (24, struct.pack("<Q", 1 << 62), "truncated"),
    ],
)
def test_damaged_headers(at: int, value: bytes, words: str, tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    data = bytearray((tmp_path / "a.gguf").read_bytes())
    data[at : at + len(value)] = value
    (tmp_path / "a.gguf").write_bytes(bytes(data))
    with pytest.raises(BadInput, match=words):
        open_source(tmp_path / "a.gguf")


def test_a_file_that_the_library_cannot_read_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    with pytest.raises(BadInput, match=r"a\.gguf: transformers cannot read"):
        open_source(tmp_path / "a.gguf")
    assert cache.entries() == []


def test_a_file_that_describes_no_model_is_refused_at_once(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_block_count(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadInput, match=r"lacks llama\.embedding_length"):
        open_source(tmp_path / "a.gguf")


def test_a_conversion_is_used_again(tmp_path: Path) -> None:
    from hublike import repository

    write(tmp_path / "a.gguf")
    key = hashlib.sha256((tmp_path / "a.gguf").read_bytes()).hexdigest()[:16]
    repository(converted(key, torch.bfloat16), "llama", torch.bfloat16)
    loaded = open_source(tmp_path / "a.gguf")
    assert (loaded.source.id, loaded.source.kind) == ("a.gguf", "gguf")
    assert loaded.model.dtype == torch.bfloat16
    with pytest.raises(BadInput, match="transformers cannot read"):
        open_source(tmp_path / "a.gguf", dtype="float32")


@pytest.mark.slow
def test_gemma_opens_from_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", os.environ.get("TRIMTAB_SLOW_CACHE", os.environ["TRIMTAB_CACHE"]))
    loaded = open_source("builtin:gemma-3-270m")
    assert (loaded.source.license, loaded.source.id) == ("gemma", "builtin:gemma-3-270m")
    assert sum(p.numel() for p in loaded.model.parameters()) == 268_098_176
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = loaded.model(**ids).logits[0, -1].topk(5).indices
    assert " Paris" in [loaded.tokenizer.decode(one) for one in best]
