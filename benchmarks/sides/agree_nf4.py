"""Matrices on NF4 by bitsandbytes, for ``make bench-agree``: ``python FILE GIVEN OUT``.

GIVEN holds for each case ``w`` (out, in); OUT gets its codes, a byte for each weight, and its scales (out, groups). The
last line is one JSON object.
"""

from __future__ import annotations

import json
import sys

import torch
from bitsandbytes.functional import quantize_4bit
from safetensors import safe_open
from safetensors.torch import save_file


def main() -> None:
    made = {}
    with safe_open(sys.argv[1], "pt") as file:
        for name, case in json.loads(file.metadata()["cases"]).items():
            w = file.get_tensor(f"{name}/w")
            packed, state = quantize_4bit(w, blocksize=case["group_size"], quant_type="nf4")
            pairs = packed.flatten()
            made[f"{name}/codes"] = torch.stack([pairs >> 4, pairs & 15], 1).reshape(w.shape).contiguous()
            made[f"{name}/scale"] = state.absmax.reshape(len(w), -1).contiguous()
    save_file(made, sys.argv[2])
    print(json.dumps({"cases": len(made) // 2, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
