"""A plain Hugging Face folder with dense weights: any host as its dense matrix, so as large as before trimming."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trimtab.core.tensorfile import save_tensors
from trimtab.export.files import carry, refuse_policies, refuse_rounding
from trimtab.export.state import dense_state
from trimtab.export.towers import published, towers
from trimtab.load.checkpoint import SINGLE
from trimtab.load.loaded import Loaded

ENGINE = "transformers"


def refuse(loaded: Loaded) -> None:
    """Raises Refused for policies."""
    refuse_policies(loaded, "dense")
    refuse_rounding(loaded, "dense")


def write(loaded: Loaded, folder: Path) -> None:
    """One safetensors file and the library's own config."""
    save_tensors(folder / SINGLE, published(dense_state(loaded.library), towers(loaded.library)), {"format": "pt"})
    carry(loaded, folder)


def notes(loaded: Loaded) -> Sequence[str]:
    return ["all weights are dense, values as trimmed: loadable with plain transformers, not smaller"]
