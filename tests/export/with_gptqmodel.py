"""By hand, in an environment that has GPTQModel: its own linears on the folders of ``--format gptq`` and ``awq``.

    python tests/export/with_gptqmodel.py FOLDER DENSE     the export, and the same artifact exported as dense

Prints for each folder how many modules were read and the largest difference from the dense matrices (0: the same).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from gptqmodel.nn_modules.qlinear.torch import TorchQuantLinear
from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchQuantLinear
from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module
from safetensors.torch import load_file


def linear(about: dict[str, Any], parts: dict[str, torch.Tensor], rows: int, width: int) -> torch.nn.Module:
    """GPTQModel's linear with the tensors of a module."""
    kind = AwqTorchQuantLinear if about["quant_method"] == "awq" else TorchQuantLinear
    made = kind(
        bits=about["bits"], group_size=about["group_size"], sym=about.get("sym", False), desc_act=False,
        in_features=width, out_features=rows, bias=False, register_buffers=True,
    )  # fmt: skip
    made.load_state_dict(parts)
    if about.get("checkpoint_format") == "gptq":
        convert_gptq_v1_to_v2_format_module(made, bits=about["bits"], pack_dtype=torch.int32)
    made.post_init()
    return made.eval()


@torch.no_grad()
def main(folder: Path, dense: Path) -> None:
    about = json.loads((folder / "config.json").read_text())["quantization_config"]
    stored, wanted = load_file(folder / "model.safetensors"), load_file(dense / "model.safetensors")
    worst, modules = 0.0, [name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")]
    for module in modules:
        w = wanted[f"{module}.weight"]
        names = [name for name in stored if name.startswith(f"{module}.") and not name.endswith(".bias")]
        made = linear(about, {name.removeprefix(f"{module}."): stored[name] for name in names}, *w.shape)
        found = made(torch.eye(w.shape[1], dtype=w.dtype)).T
        worst = max(worst, float((found.float() - w.float()).abs().max()))
    print(f"{folder}: {len(modules)} modules, largest difference {worst}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
