"""A folder of packed codes read by hand: every bit apart, then a dense folder that plain transformers opens."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from library import open_model, widened
from safetensors.torch import load_file, save_file

Read = Callable[[dict[str, torch.Tensor], dict[str, Any]], torch.Tensor]
"""From a module's tensors and the folder's quantization_config to its dense matrix (out, in)."""


def numbers(words: torch.Tensor, bits: int) -> Any:
    """Each row of int32 as the numbers of its bit stream, the lowest bit first."""
    octets = np.ascontiguousarray(words.numpy()).astype("<i4").view(np.uint8)
    stream = np.unpackbits(octets, axis=1, bitorder="little")
    return (stream.reshape(len(octets), -1, bits) * (1 << np.arange(bits))).sum(-1)


def open_dense(folder: Path, read: Read) -> Any:
    """The library's model of the matrices that ``read`` finds, in float32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    about = config.pop("quantization_config")
    stored = load_file(folder / "model.safetensors")
    packed = [name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")]
    assert packed, "no module holds codes"
    for module in packed:
        own = [name for name in stored if name.startswith(f"{module}.") and not name.endswith(".bias")]
        parts = {name.removeprefix(f"{module}."): stored.pop(name) for name in own}
        stored[f"{module}.weight"] = read(parts, about).contiguous()
    with tempfile.TemporaryDirectory() as place:
        save_file(stored, Path(place) / "model.safetensors", {"format": "pt"})
        (Path(place) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        if (folder / "generation_config.json").is_file():
            shutil.copy(folder / "generation_config.json", place)
        return widened(open_model(Path(place)))
