"""What the layouts of GPTQ and AWQ have in common: codes on one grid in the decoder's linears, all else dense."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from trimtab.core.errors import Refused
from trimtab.core.tensorfile import save_tensors
from trimtab.core.weight import Quantized
from trimtab.export.files import carry, refuse_policies, refuse_rounding
from trimtab.export.forms import quantized, refuse_expressions, say
from trimtab.export.state import dense_state
from trimtab.export.towers import published, towers
from trimtab.load.artifact import hosts
from trimtab.load.checkpoint import SINGLE
from trimtab.load.loaded import Loaded

WORD = 32


def refuse(loaded: Loaded, name: str, bits: Collection[int]) -> None:
    """Raises Refused for policies, for a model that does not decode, for anything but dense matrices and codes, and
    where the decoder's linears are not all on one grid of ``bits`` whose rows and columns fill whole words."""
    nearest = f"codes of {', '.join(map(str, sorted(bits)))} bits on one grid in every linear of the decoder"
    refuse_policies(loaded, name)
    refuse_rounding(loaded, name)
    refuse_expressions(loaded, name, nearest)
    found, wanted = codes(loaded), _linears(loaded)
    first = next(iter(found.values()), None)
    if first is None:
        raise Refused(f"--format {name}: no linear of a decoder is on a grid; accepted: {nearest}, or --format dense")
    for path in wanted:
        w = found.get(path)
        if w is None or grid(w) != grid(first):
            got = "dense" if w is None else say(w)
            raise Refused(f"--format {name}: {path} is {got}, others are {say(first)}; accepted: {nearest}, or "
                          "--format compressed-tensors")  # fmt: skip
        if w.bits not in bits:
            raise Refused(f"--format {name}: {path} is {say(w)}; accepted: {nearest}, or --format gptq")
        step = WORD if w.bits == 3 else WORD // w.bits
        if any(size % step for size in w.shape):
            raise Refused(f"--format {name}: {path} is {w.shape[0]} x {w.shape[1]}; accepted: multiples of {step}, or "
                          "--format compressed-tensors")  # fmt: skip


def _linears(loaded: Loaded) -> list[str]:
    """The linears of the decoder's layers."""
    anatomy = loaded.anatomy
    return [name for name, _ in anatomy.linears() if anatomy.decodes and anatomy.part_of(name) == "language"]


def codes(loaded: Loaded) -> dict[str, Quantized]:
    """What is written as codes, by module path."""
    found = quantized(loaded)
    return {name: found[name] for name in _linears(loaded) if name in found}


def dense(loaded: Loaded) -> list[str]:
    """The linears that are written dense: those of a tower, a projector, the head."""
    found = codes(loaded)
    return [name for name, _ in loaded.anatomy.linears() if name not in found]


def grid(w: Quantized) -> tuple[int, int, bool]:
    """Bits, group size (-1: the whole row), and whether there are no zeros."""
    return w.bits, -1 if w.group_size == w.shape[1] else w.group_size, w.zero is None


def write(loaded: Loaded, folder: Path, tensors: Mapping[str, Tensor], about: dict[str, Any], beside: str) -> None:
    """``tensors`` and all that is dense in one file; ``about`` in the library's own config and in ``beside``."""
    state = dense_state(loaded.library, codes(loaded)) | dict(tensors)
    save_tensors(folder / SINGLE, published(state, towers(loaded.library)), {"format": "pt"})
    carry(loaded, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"quantization_config": about}, indent=2) + "\n", encoding="utf-8")
    (folder / beside).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def notes(loaded: Loaded) -> Sequence[str]:
    """What both say of a folder."""
    found = codes(loaded)
    left = [name for name, host in hosts(loaded.anatomy) if isinstance(host.w, Quantized) and name not in found]
    said = ["layout only: read back by an independent reader of the published layout, not by an engine that runs it"]
    if left:
        said.append(f"dense here, codes in the artifact: {', '.join(left)} (the layout's codes are the decoder's only)")
    return said
