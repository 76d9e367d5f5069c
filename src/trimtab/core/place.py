"""Where a tensor lies in a safetensors file, and plain reads of it into fresh aligned memory: nothing stays mapped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path

import torch
from jaxtyping import Integer
from torch import Tensor

from trimtab.core.errors import BadInput
from trimtab.core.tensorfile import memory
from trimtab.core.tensorheader import DTYPES, read_header

Stamp = tuple[int, int, int]
"""Size, time of the last change in nanoseconds, and inode of a file: it is another one where one of them differs."""


@dataclass(frozen=True)
class Place:
    """A tensor of ``shape`` and ``dtype``, called ``key``, from byte ``begin`` of a file that had ``stamp`` when it was
    opened. Every read opens the file and closes it again."""

    path: Path
    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    stamp: Stamp

    def read(self) -> Tensor:
        """The tensor. Raises BadInput, naming file and tensor, where the file is gone or changed."""
        found = torch.empty(self.shape, dtype=self.dtype)
        with self._open() as file:
            self._fill(file, self.begin, memory(found))
        return found

    def rows(self, index: Integer[Tensor, "*b"]) -> Tensor:
        """Rows of a matrix, (*b, in), each read once and neighbours together. Raises as ``read``, and IndexError for a
        row that is not there."""
        wanted, inverse = index.flatten().unique(return_inverse=True)
        if len(wanted) and not 0 <= int(wanted[0]) <= int(wanted[-1]) < self.shape[0]:
            raise IndexError(f"{self.key}: rows {int(wanted[0])} to {int(wanted[-1])} of {self.shape[0]}")
        width = prod(self.shape[1:]) * self.dtype.itemsize
        found = torch.empty(len(wanted), *self.shape[1:], dtype=self.dtype)
        whole, at = memory(found), 0
        with self._open() as file:
            for run in torch.tensor_split(wanted, 1 + (wanted.diff() != 1).nonzero()[:, 0]):
                end = at + len(run) * width
                if len(run):
                    self._fill(file, self.begin + int(run[0]) * width, whole[at:end])
                at = end
        asked = found if torch.equal(wanted, index.flatten()) else found[inverse]
        return asked.view(*index.shape, *self.shape[1:])

    @contextmanager
    def _open(self) -> Iterator[FileIO]:
        try:
            with self.path.open("rb", buffering=0) as file:
                self._same(file)
                yield file
                self._same(file)  # nor did it change under the read
        except OSError as error:
            raise BadInput(f"{self.path}: {self.key} cannot be read any more: {error}") from error

    def _same(self, file: FileIO) -> None:
        if stamp_of(os.fstat(file.fileno())) != self.stamp:
            raise BadInput(
                f"{self.path}: changed since it was opened, and {self.key} is still to be read from it; accepted: the "
                "file as it was (start again with a folder that nothing writes to)"
            )

    def _fill(self, file: FileIO, begin: int, into: memoryview) -> None:
        file.seek(begin)
        while len(into):
            count = file.readinto(into)
            if not count:
                raise BadInput(f"{self.path}: truncated: it ends within {self.key}")
            into = into[count:]


def stamp_of(stat: os.stat_result) -> Stamp:
    """By what a file is known again."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def places(path: Path) -> dict[str, Place]:
    """Every tensor of a safetensors file by name. Raises BadInput as ``read_header`` does."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    stamp = stamp_of(path.stat())  # taken first: whatever changes from here on is seen by the first read
    entries = read_header(path)
    start = stamp[0] - max((entry.end for entry in entries.values()), default=0)
    return {
        key: Place(path, key, DTYPES[entry.dtype], entry.shape, start + entry.begin, stamp)
        for key, entry in entries.items()
    }
