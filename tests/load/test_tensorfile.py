"""Tensor files are written and read by our own code, one tensor at a time: the bytes are the safetensors library's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from trimtab.core.place import places
from trimtab.core.tensorfile import save_tensors, size_of
from trimtab.core.tensorheader import DTYPES


def random(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Any bits: NaN, infinite and denormal numbers included."""
    count = torch.Size(shape).numel() * dtype.itemsize
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, dtype=torch.uint8).bool()
    return torch.randint(0, 256, (count,), dtype=torch.uint8).view(dtype).view(shape)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    alike = (a.dtype, a.shape) == (b.dtype, b.shape)
    return alike and a.reshape(-1).view(torch.uint8).equal(b.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("about", [None, {"trimtab": '{"a": "\u00e9 \\ \n"}'}], ids=["bare", "metadata"])
def test_every_dtype_and_shape_is_written_as_the_library_writes_it(
    about: dict[str, str] | None, tmp_path: Path
) -> None:
    shapes: list[tuple[int, ...]] = [(), (0, 4), (3,), (2, 3), (5, 1, 2)]
    tensors = {f"{name}.{len(shape)}": random(dtype, shape) for name, dtype in DTYPES.items() for shape in shapes}
    tensors |= {'a \u00fc"quoted"\\\t': torch.rand(3), "B": torch.rand(2), "a": torch.rand(1)}
    save_tensors(tmp_path / "ours", tensors, about)
    save_file(tensors, tmp_path / "theirs", about)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    found = places(tmp_path / "theirs")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        read = found[name].read()
        assert same(read, value), name
        assert read.data_ptr() % 64 == 0


def test_what_is_strided_or_shares_memory_is_written_whole(tmp_path: Path) -> None:
    one = torch.rand(6, 8)
    tensors = {"turned": one.T, "whole": one, "part": one[1:3, ::2], "grad": torch.nn.Parameter(one)}
    save_tensors(tmp_path / "a", tensors)
    found = load_file(tmp_path / "a")
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


@given(st.lists(st.integers(0, 6), max_size=20), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=40, deadline=None)
def test_rows_are_rows_in_any_order(index: list[int], dtype: torch.dtype) -> None:
    path = Path(FILES[dtype])
    asked = torch.tensor(index, dtype=torch.long)
    whole = load_file(path)["w"]
    place = places(path)["w"]
    assert same(place.rows(asked), whole[asked])
    pairs = asked[: len(asked) // 2 * 2].view(-1, 2)
    assert same(place.rows(pairs), whole[pairs])


FILES: dict[torch.dtype, str] = {}


@pytest.fixture(autouse=True, scope="module")
def _files(tmp_path_factory: pytest.TempPathFactory) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        path = tmp_path_factory.mktemp("rows") / "w.safetensors"
        save_file({"a": torch.rand(5), "w": torch.randn(7, 9).to(dtype), "z": torch.rand(2, 2)}, path)
        FILES[dtype] = str(path)


@pytest.mark.parametrize("index", [[7], [-1], [0, 9]])
def test_a_row_that_is_not_there_is_no_other_tensors(index: list[int]) -> None:
    with pytest.raises(IndexError, match="w: rows"):
        places(Path(FILES[torch.float32]))["w"].rows(torch.tensor(index))


def test_the_size_of_a_file_is_known_before_it_is_written(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(7), "b": torch.rand(3, 5).bfloat16(), "c": torch.zeros(2, dtype=torch.uint8)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"said": "a word"})
    assert size_of(tensors, {"said": "a word"}) == (tmp_path / "x.safetensors").stat().st_size
