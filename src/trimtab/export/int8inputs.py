"""Rounded inputs in compressed-tensors' words: its format ``int-quantized``, which vLLM calls W8A8.

Of a linear are stored ``weight`` (out, in) int8, code - 128, and ``weight_scale`` (out, 1) in the checkpoint's dtype.
A static input's scale is ``input_scale`` (1,), float32; a dynamic one's is each token's own and no tensor. Of that
scale two forms are about:

    max_j |x_j| / 127      here, and in vLLM's kernels by their source
    max_j |x_j| / 127.5    in compressed-tensors, so in transformers, with -128 among the codes

so codes differ by one here and there, and answers by a rounding. The check asks with rounding, and without on either
side, where the weights alone must answer exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trimtab.core.acts import Rounding, integers
from trimtab.core.errors import Refused
from trimtab.core.staticacts import StaticInt8
from trimtab.core.weight import Quantized
from trimtab.export.forms import quantized, rounded, say
from trimtab.load.loaded import Loaded

FORMAT = "int-quantized"


def refuse(loaded: Loaded, name: str) -> None:
    """Raises Refused, for the format ``name``, for the first linear that rounds its input and is none of the library's
    own (a patch convolution, a part of a fused matrix), is a word table too, or holds factors beside its codes
    (SmoothQuant's 1/s): the engine would multiply by a dense matrix, or round another input."""
    own = quantized(loaded)
    tables = {id(host.w) for _, host in loaded.anatomy.embeddings()}
    for path, host in rounded(loaded).items():
        start = f"--format {name}: {path} rounds its input and"
        if id(host.w) in tables:
            raise Refused(f"{start} is a word table too, which is written dense; accepted: a head of its own; next: "
                          f"ignore: [{path.rpartition('.')[2]}] in the recipe")  # fmt: skip
        if not isinstance(host.w, Quantized):
            raise Refused(f"{start} is {say(host.w)}; the format has no place for factors on an input; accepted: codes "
                          "of 8 bits alone; nearest: w8a8 in place of smoothquant")  # fmt: skip
        if path not in own:
            raise Refused(f"{start} is no linear of the library's own, which the format cannot say of it; accepted: "
                          f"linears; next: ignore: [{path.rpartition('.')[2]}] in the recipe")  # fmt: skip


def described(static: bool) -> dict[str, Any]:
    """The ``input_activations`` of a group."""
    found = {"num_bits": 8, "type": "int", "symmetric": True, "group_size": None}
    return found | {"dynamic": not static, "strategy": "tensor" if static else "token"}


def octets(w: Quantized, acts: Rounding) -> dict[str, Tensor]:
    """The format's tensors of a matrix and of its input, by their names under its module. Raises TypeError for any grid
    but 8 bits, symmetric, one scale for each row."""
    found = integers(w)
    made = {"weight": found.codes.contiguous(), "weight_scale": found.scale.detach()[:, None].contiguous()}
    return made | ({"input_scale": torch.tensor([acts.scale])} if isinstance(acts, StaticInt8) else {})


def notes(loaded: Loaded) -> list[str]:
    """A sentence on the engine's own rounding, where any input is rounded."""
    count = len(rounded(loaded))
    if not count:
        return []
    static = sum(isinstance(host.acts, StaticInt8) for host in rounded(loaded).values())
    said = f"inputs of {count} linears are rounded by the engine, {static} of them on a fixed grid"
    if static < count:
        said += (": transformers divides a token's largest by 127.5, Trimtab and vLLM's kernels, by their source, by "
                 "127; an input of two axes (a pooled vector) has one scale for all its rows there")  # fmt: skip
    return [f"{said}. Without rounding the answers are exact"]
