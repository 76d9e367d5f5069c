"""Matrices rounded by llm-compressor's own column loop, for ``make bench-agree``: ``python FILE GIVEN OUT``.

GIVEN holds for each case ``w`` (out, in), ``h`` (in, in), and the ``scale`` and signed ``zero`` (out, groups) that the
grid has; OUT gets what comes out of it. The last line is one JSON object.
"""

from __future__ import annotations

import json
import sys

import torch
from compressed_tensors.quantization import QuantizationArgs
from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
from safetensors import safe_open
from safetensors.torch import save_file


def main() -> None:
    made = {}
    with safe_open(sys.argv[1], "pt") as file:
        cases = json.loads(file.metadata()["cases"])
        for name, case in cases.items():
            w, h, scale, zero = (file.get_tensor(f"{name}/{key}") for key in ("w", "h", "scale", "zero"))
            args = QuantizationArgs(num_bits=case["bits"], type="int", strategy="group", group_size=case["group_size"],
                                    symmetric=case["symmetric"], actorder=None)  # fmt: skip
            rounded, _, fallen = quantize_weight(w[None].clone(), h[None].clone(), scale[None], zero[None], None, args,
                                                 percdamp=case["damp_percent"])  # fmt: skip
            assert not fallen.any(), "it has rounded to nearest instead"
            made[name] = rounded[0].contiguous()
    save_file(made, sys.argv[2])
    print(json.dumps({"cases": len(made), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
