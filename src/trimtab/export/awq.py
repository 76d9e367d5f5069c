"""AWQ's safetensors layout for its GEMM kernels: 4-bit codes packed along the outputs, eight to a word, interleaved.

Of each linear of the decoder are stored ``qweight`` (in, out / 8) int32, ``qzeros`` (groups, out / 8) int32 and
``scales`` (groups, out) in the checkpoint's dtype; nibble i of a word, from the lowest, is output ``ORDER[i]`` of its
eight. w = (code - zero) * scale. The layout is a grid like any other: what AWQ itself leaves here keeps a factor for
each input beside the codes, for which it has no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trimtab.core.pack import unpack
from trimtab.core.weight import Quantized
from trimtab.export import decoder
from trimtab.export.gptq import words, zeros
from trimtab.export.towers import published_name, towers
from trimtab.load.loaded import Loaded

ENGINE = "transformers"
NAME = "awq"
BITS = (4,)
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def refuse(loaded: Loaded) -> None:
    """Raises Refused as ``decoder.refuse`` does: one grid of 4 bits on every linear of the decoder."""
    decoder.refuse(loaded, NAME, BITS)


def write(loaded: Loaded, folder: Path) -> None:
    """One safetensors file, the library's own config with a ``quantization_config``, and ``quant_config.json``."""
    codes = decoder.codes(loaded)
    tensors = {f"{name}.{key}": value for name, w in codes.items() for key, value in packed(w).items()}
    inside, dense = towers(loaded.library), decoder.dense(loaded)
    both = dict.fromkeys([*dense, *(published_name(name, inside) for name in dense)])  # vLLM knows the second ones
    about = described(next(iter(codes.values())), list(both))
    decoder.write(loaded, folder, tensors, about, "quant_config.json")


def notes(loaded: Loaded) -> Sequence[str]:
    return decoder.notes(loaded)


def packed(w: Quantized) -> dict[str, Tensor]:
    """The layout's tensors of a matrix, by their names under its module."""
    return {
        "qweight": words(interleaved(unpack(w.codes, w.bits).T), w.bits),
        "qzeros": words(interleaved(zeros(w).T), w.bits),
        "scales": w.scale.detach().T.contiguous(),
    }


def interleaved(values: Tensor) -> Tensor:
    """Each eight columns in ``ORDER``."""
    return values.unflatten(1, (-1, 8))[..., torch.tensor(ORDER)].flatten(1)


def described(w: Quantized, dense: Sequence[str]) -> dict[str, Any]:
    """The ``quantization_config`` of a model whose codes are like ``w``."""
    bits, group, _ = decoder.grid(w)
    return {
        "quant_method": NAME, "bits": bits, "group_size": group, "zero_point": True, "version": "gemm",
        "modules_to_not_convert": list(dense),
    }  # fmt: skip
