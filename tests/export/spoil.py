"""A form that writes something else than it should, to see that it does not leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from trimtab.load.loaded import Loaded


def spoil(monkeypatch: pytest.MonkeyPatch, form: ModuleType, change: Callable[[dict[str, Tensor]], None]) -> None:
    """``change`` is done to the tensors that ``form`` wrote, in its one file."""
    write = form.write

    def faulty(loaded: Loaded, folder: Path) -> None:
        write(loaded, folder)
        (file,) = folder.glob("*.safetensors")
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, {"format": "pt"})

    monkeypatch.setattr(form, "write", faulty)


def turn_over(file: Path, raw: bytes, place: int) -> None:
    """``file`` as ``raw``, but for 64 bytes from ``place`` on, whose bits are all the other way."""
    file.write_bytes(raw[:place] + bytes(byte ^ 0xFF for byte in raw[place : place + 64]) + raw[place + 64 :])
