"""GPTQ's layout read by hand, for plain transformers: ``python -I gptq.py FOLDER SAMPLES``. No engine runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).with_name("shared")))  # -I leaves a script's own folder out

import torch
from library import asked
from teacher import main
from unpacked import numbers, open_dense


def read(parts: dict[str, torch.Tensor], about: dict[str, Any]) -> torch.Tensor:
    """(code - zero) * scale; zeros of the first version of the layout are one higher than stored."""
    bits, scale = int(about["bits"]), parts["scales"]
    one = 1 if about["checkpoint_format"] == "gptq" else 0
    codes = torch.from_numpy(numbers(parts["qweight"].T, bits))  # (out, in)
    zeros = torch.from_numpy(numbers(parts["qzeros"], bits)) + one  # (groups, out)
    group = parts["g_idx"].long()
    return ((codes - zeros[group].T).to(scale.dtype) * scale[group].T).to(scale.dtype)


if __name__ == "__main__":
    main(lambda folder: asked(open_dense(folder, read)))
