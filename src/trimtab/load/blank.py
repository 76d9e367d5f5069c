"""A model's anatomy from its config alone, on the meta device: what planning needs, without a weight read."""

from __future__ import annotations

from pathlib import Path

import torch

from trimtab import anatomy
from trimtab.core.errors import BadInput
from trimtab.load import builtin, hub
from trimtab.load.checkpoint import read_json
from trimtab.load.config import model_class, read_config
from trimtab.load.skeleton import skeleton


def blank(name: str, revision: str | None = None) -> anatomy.Anatomy:
    """The anatomy of ``name`` with empty weights. Raises BadInput where there is no config (a ``.gguf`` file has none
    that can be read without converting it)."""
    if name.startswith("builtin:"):
        folder = builtin.builtin_folder(name.removeprefix("builtin:"))
    elif name.endswith(".gguf"):
        raise BadInput(f"plan: {name!r} is a GGUF file; plan the folder that it is converted to, or run the recipe")
    else:
        folder = Path(name) if Path(name).is_dir() else hub.hub_folder(name, revision, False)
    kind, _ = model_class(folder, read_json(folder / "config.json"), False)
    return anatomy.of(skeleton(kind, read_config(folder), torch.bfloat16))
