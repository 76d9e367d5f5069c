"""AWQ's GEMM layout read by hand, for plain transformers: ``python -I awq.py FOLDER SAMPLES``. No engine runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).with_name("shared")))  # -I leaves a script's own folder out

import numpy as np
import torch
from library import asked
from teacher import main
from unpacked import numbers, open_dense

PLACE = (0, 4, 1, 5, 2, 6, 3, 7)
"""In which nibble of its word each of eight outputs lies."""


def straight(words: torch.Tensor) -> torch.Tensor:
    """Rows of words as rows of outputs in their own order."""
    found = numbers(words, 4)
    return torch.from_numpy(np.stack([found[:, place::8] for place in PLACE], -1).reshape(len(found), -1))


def read(parts: dict[str, torch.Tensor], about: dict[str, Any]) -> torch.Tensor:
    """(code - zero) * scale."""
    assert (about["bits"], about["version"]) == (4, "gemm")
    codes, zeros, scale = straight(parts["qweight"]), straight(parts["qzeros"]), parts["scales"]
    times = len(codes) // len(zeros)
    whole = (codes - zeros.repeat_interleave(times, 0)).to(scale.dtype) * scale.repeat_interleave(times, 0)
    return whole.T.to(scale.dtype)


if __name__ == "__main__":
    main(lambda folder: asked(open_dense(folder, read)))
