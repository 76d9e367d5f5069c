"""compressed-tensors: a Hugging Face folder that transformers, vLLM and SGLang load with codes as codes.

Of a linear are stored ``weight_packed`` (out, ceil(in * bits / 32)) int32, code i of a row at the bits
[i * bits, (i + 1) * bits) of its words; ``weight_scale`` (out, groups) in the checkpoint's dtype; ``weight_shape``;
and ``weight_zero_point`` (ceil(out * bits / 32), groups) int32, packed down the columns. As here w = (code - zero) *
scale, and without zeros the origin is 2**(bits - 1). Linears that round their input are written as bytes instead (see
``trimtab.export.int8inputs``). Modules with one grid are named in a group of ``config_groups``, dense linears in
``ignore``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.acts import Rounding
from trimtab.core.errors import Refused
from trimtab.core.pack import pack
from trimtab.core.staticacts import StaticInt8
from trimtab.core.tensorfile import save_tensors
from trimtab.core.weight import Quantized
from trimtab.export import int8inputs
from trimtab.export.files import carry, refuse_policies
from trimtab.export.forms import quantized, recast, refuse_expressions, rounded, say
from trimtab.export.state import dense_state
from trimtab.export.towers import published, target, towers
from trimtab.load.artifact import hosts
from trimtab.load.checkpoint import SINGLE
from trimtab.load.loaded import Loaded

NONE: Mapping[str, Rounding] = MappingProxyType({})
ENGINE = "compressed_tensors"
NAME = "compressed-tensors"
BITS = (2, 4, 8)
"""Three bits are packed in one way by compressed-tensors before 0.18 and by vLLM, in another one since."""
NEAREST = "codes of 2, 4 or 8 bits, for instance by gptq or rtn"


def refuse(loaded: Loaded) -> None:
    """Raises Refused for policies, for anything but dense matrices and codes of 2, 4 or 8 bits, and where no linear is
    on a grid; and, as ``int8inputs`` does, for rounded inputs that the format cannot express."""
    refuse_policies(loaded, NAME)
    int8inputs.refuse(loaded, NAME)
    refuse_expressions(loaded, NAME, NEAREST)
    for path, w in quantized(loaded).items():
        if w.bits not in BITS:
            raise Refused(f"--format {NAME}: {path} is {say(w)}; the engines pack {w.bits} bits in two ways; accepted: "
                          f"{NEAREST} (nearest: 4), or --format dense")  # fmt: skip
    if not chosen(loaded):
        raise Refused(f"--format {NAME}: no linear of {loaded.source.id} is on a grid of its own; accepted: {NEAREST}, "
                      "or --format dense")  # fmt: skip


def chosen(loaded: Loaded) -> dict[str, Quantized]:
    """The linears that are written as codes. Word tables, and heads that are one, are not: transformers cannot load
    such a table, and vLLM passes over its zeros."""
    tables = {id(host.w) for _, host in loaded.anatomy.embeddings()}
    return {name: w for name, w in quantized(loaded).items() if id(w) not in tables}


def write(loaded: Loaded, folder: Path) -> None:
    """One safetensors file, and the library's own config with a ``quantization_config``."""
    codes = chosen(loaded)
    rounding = {name: host.acts for name, host in rounded(loaded).items() if host.acts is not None}
    tensors = dense_state(loaded.library, set(codes))
    for name, w in codes.items():
        made = int8inputs.octets(w, rounding[name]) if name in rounding else packed(w)
        tensors |= {f"{name}.{key}": value for key, value in made.items()}
    inside = towers(loaded.library)
    save_tensors(folder / SINGLE, published(tensors, inside), {"format": "pt"})
    carry(loaded, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    inner = set(recast(loaded))
    dense = [name for name, _ in loaded.anatomy.linears() if name not in codes and name not in inner]
    config["quantization_config"] = _for_all(described(codes, dense, rounding), inside)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _for_all(about: dict[str, Any], inside: tuple[str, ...]) -> dict[str, Any]:
    """``about`` with the modules named as all engines find them."""
    groups = {
        name: group | {"targets": [target(path, inside) for path in group["targets"]]}
        for name, group in about["config_groups"].items()
    }
    return about | {"config_groups": groups, "ignore": [target(path, inside) for path in about["ignore"]]}


def notes(loaded: Loaded) -> Sequence[str]:
    codes = chosen(loaded)
    said = [f"{len(codes)} matrices are codes; all others are dense, values as trimmed"]
    left = [name for name, host in hosts(loaded.anatomy) if isinstance(host.w, Quantized) and name not in codes]
    if left:
        said.append(f"dense here, codes in the artifact: {', '.join(left)} (word tables, heads that are one, and "
                    "convolutions have no codes that the engines load)")  # fmt: skip
    if any(w.zero is not None for w in codes.values()):
        said.append("zeros: transformers loads them with compressed-tensors 0.15 to 0.17, not with 0.18 to 0.20")
    if any(w.bits == 2 for w in codes.values()):
        said.append("codes of 2 bits: transformers loads them; vLLM's kernels, by its source, take 4 and 8")
    return [*said, *int8inputs.notes(loaded)]


def packed(w: Quantized) -> dict[str, Tensor]:
    """The format's tensors of a matrix, by their names under its module."""
    rows, width = w.shape
    found = {
        "weight_packed": _words(w.codes),
        "weight_scale": w.scale.detach().contiguous(),
        "weight_shape": torch.tensor([rows, width]),
    }
    if w.zero is not None:
        lanes = F.pad(w.zero.T, (0, -rows % (32 // w.bits)))
        found["weight_zero_point"] = _words(pack(lanes.contiguous(), w.bits)).T.contiguous()
    return found


def _words(octets: Tensor) -> Tensor:
    """Rows of bytes as rows of little-endian int32, filled up with zeros."""
    return F.pad(octets, (0, -octets.shape[1] % 4)).contiguous().view(torch.int32)


def described(
    codes: Mapping[str, Quantized], dense: Sequence[str], rounding: Mapping[str, Rounding] = NONE
) -> dict[str, Any]:
    """The ``quantization_config``: a group for each grid, every module by its name; ``rounding``: how those whose
    input is rounded do it."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, w in codes.items():
        whole = w.group_size == w.shape[1]
        grid = (w.bits, None if whole else w.group_size, w.zero is None, _static(rounding.get(name)))
        groups.setdefault(grid, []).append(name)
    found = {f"group_{number}": _group(names, *grid) for number, (grid, names) in enumerate(groups.items())}
    formats = {group["format"] for group in found.values()}
    return {
        "quant_method": NAME,
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
        "ignore": list(dense),
        "config_groups": found,
    }


def _static(acts: Rounding | None) -> bool | None:
    """Whether the input's scale is fixed; None where it is not rounded."""
    return None if acts is None else isinstance(acts, StaticInt8)


def _group(names: Sequence[str], bits: int, group: int | None, symmetric: bool, static: bool | None) -> dict[str, Any]:
    return {
        "targets": list(names),
        "format": "pack-quantized" if static is None else int8inputs.FORMAT,
        "weights": {
            "num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": False,
            "strategy": "channel" if group is None else "group", "group_size": group,
        },
        "input_activations": None if static is None else int8inputs.described(static),
        "output_activations": None,
    }  # fmt: skip
