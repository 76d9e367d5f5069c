"""Models with every form of weight that a graph can hold, one that is tied and one that sees, and what their matrices
weigh there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import subjects
import torch

from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.joins import Chain, Sum, leaves
from trimtab.core.weight import Dense, Quantized
from trimtab.load import artifact
from trimtab.load.artifact import read
from trimtab.quantize import RTN

TOWER = "model.vision_tower.encoder.layers.0.mlp.fc1"
PROJECTOR = "model.multi_modal_projector.linear_1"


def mixed(name: str) -> Any:
    """Every kind of grid: 2, 3, 4 and 8 bits, with zeros and without, groups and whole rows; the table and its head in
    one matrix."""
    if "q_proj" in name:
        return RTN(bits=8, group_size=32, symmetric=True)
    if "k_proj" in name:
        return RTN(bits=3, group_size=16, symmetric=".0." in name)
    if "v_proj" in name:
        return RTN(bits=2, group_size=-1, symmetric=".1." in name)
    return RTN(bits=4, group_size=32, symmetric="up_proj" in name)


def expressions(loaded: Any) -> None:
    """A sum with thin factors, a chain with a diagonal."""
    generator = torch.Generator().manual_seed(0)
    hosts = dict(artifact.hosts(loaded.anatomy))
    down, gate_ = hosts["model.layers.0.mlp.down_proj"], hosts["model.layers.1.mlp.gate_proj"]
    left, right = (_short(torch.randn(*shape, generator=generator) * 0.05) for shape in ((64, 4), (4, 128)))
    down.w = Sum([down.w, LowRank(left, right)])
    gate_.w = Chain([gate_.w, Diagonal(torch.rand(64, generator=generator) + 0.5)])


def write(folder: Path) -> Path:
    """The tied language model's artifact, in ``folder``."""
    subjects.language(folder / "source", tie_word_embeddings=True)
    subjects.trimmed(folder / "source", folder / "plain", mixed)
    loaded = _short_scales(folder / "plain")
    expressions(loaded)
    artifact.write(folder / "rich", loaded, {})
    return folder / "rich"


def write_seeing(folder: Path) -> Path:
    """The same of a LLaVA, ``mixed`` in all but its patch convolution."""
    subjects.seeing(folder / "source")
    subjects.trimmed(folder / "source", folder / "plain", lambda name: None if "patch" in name else mixed(name))
    artifact.write(folder / "watching", _short_scales(folder / "plain"), {})
    return folder / "watching"


def patches(folder: Path) -> int:
    """Bytes of the matrices that stay dense, in float32."""
    every = dict(artifact.hosts(read(folder, lowered=False).anatomy))
    return sum(4 * host.w.shape[0] * host.w.shape[1] for host in every.values() if isinstance(host.w, Dense))


def _short_scales(folder: Path) -> Any:
    """The artifact with scales that 16 bits hold: nothing is rounded on either side."""
    loaded = read(folder, lowered=False)
    for _, host in artifact.hosts(loaded.anatomy):
        if isinstance(host.w, Quantized):
            host.w.scale = _short(host.w.scale)
    return loaded


def stored(folder: Path) -> int:
    """Bytes of the matrices of an artifact in containers of 4 and 8 bits: codes, zeros, 16-bit scales and factors."""
    loaded = read(folder, lowered=False)
    every = {id(leaf): leaf for _, host in artifact.hosts(loaded.anatomy) for leaf in leaves(host.w)}
    total = 0
    for leaf in every.values():
        if isinstance(leaf, Quantized):
            wide = 1 if leaf.bits == 8 else 2
            total += leaf.shape[0] * leaf.shape[1] // wide + leaf.scale.numel() * 2
            total += 0 if leaf.zero is None else leaf.zero.numel() // wide
    return total


def _short(value: torch.Tensor) -> torch.Tensor:
    return value.bfloat16().float()
