"""GPTQ's safetensors layout, as AutoGPTQ and GPTQModel write it: codes packed down the inputs.

Of each linear of the decoder are stored ``qweight`` (in * bits / 32, out) int32, the codes of a column as one bit
stream, the first input lowest; ``qzeros`` (groups, out * bits / 32) int32, along the outputs; ``scales`` (groups, out)
in the checkpoint's dtype; ``g_idx`` (in) int32, the group of each input. w = (code - zero) * scale. The layout's first
version stores zero - 1. Engines do not agree what becomes of a zero of 0, and at 3 bits GPTQModel takes its one from
other bits: then the second version is written, which stores zero itself (``checkpoint_format: gptq_v2``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trimtab.core.pack import pack
from trimtab.core.weight import Quantized
from trimtab.export import decoder
from trimtab.load.loaded import Loaded

ENGINE = "transformers"
NAME = "gptq"
BITS = (2, 3, 4, 8)


def refuse(loaded: Loaded) -> None:
    """Raises Refused as ``decoder.refuse`` does: one grid of 2, 3, 4 or 8 bits on every linear of the decoder."""
    decoder.refuse(loaded, NAME, BITS)


def write(loaded: Loaded, folder: Path) -> None:
    """One safetensors file, the library's own config with a ``quantization_config``, and ``quantize_config.json``."""
    codes = decoder.codes(loaded)
    first = is_first(codes)
    tensors = {f"{name}.{key}": value for name, w in codes.items() for key, value in packed(w, first).items()}
    decoder.write(loaded, folder, tensors, described(codes, first), "quantize_config.json")


def notes(loaded: Loaded) -> Sequence[str]:
    said = decoder.notes(loaded)
    if any(w.zero is not None for w in decoder.codes(loaded).values()):
        return [*said, "zeros: vLLM reads this layout with symmetric: true only; nearest that it takes with zeros: "
                       "--format compressed-tensors, or awq at 4 bits"]  # fmt: skip
    return said


def is_first(codes: Mapping[str, Quantized]) -> bool:
    """Whether the first version of the layout can say it: no zero of 0, not 3 bits."""
    return all(w.bits != 3 and int(zeros(w).min()) > 0 for w in codes.values())


def zeros(w: Quantized) -> Tensor:
    """The zero of each row and group, (out, groups), that of the symmetric grid too."""
    return torch.full(w.scale.shape, 2 ** (w.bits - 1), dtype=torch.uint8) if w.zero is None else w.zero


def packed(w: Quantized, first: bool) -> dict[str, Tensor]:
    """The layout's tensors of a matrix, by their names under its module; ``first``: of its first version."""
    kept = zeros(w) - 1 if first else zeros(w)
    width = w.shape[1]
    return {
        "qweight": w.codes.contiguous().view(torch.int32).T.contiguous(),
        "qzeros": words(kept.T, w.bits),
        "scales": w.scale.detach().T.contiguous(),
        "g_idx": (torch.arange(width) // w.group_size).int(),
    }


def words(values: Tensor, bits: int) -> Tensor:
    """Each row of numbers as one bit stream in little-endian int32."""
    return pack(values.contiguous(), bits).contiguous().view(torch.int32)


def described(codes: Mapping[str, Quantized], first: bool) -> dict[str, Any]:
    """The ``quantization_config``."""
    bits, group, symmetric = decoder.grid(next(iter(codes.values())))
    return {
        "quant_method": NAME, "bits": bits, "group_size": group, "sym": symmetric, "desc_act": False,
        "static_groups": False, "true_sequential": True, "lm_head": False,
        "checkpoint_format": "gptq" if first else "gptq_v2",
    }  # fmt: skip
