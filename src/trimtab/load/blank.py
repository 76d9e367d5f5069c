"""A model's anatomy from its config alone, on the meta device: what planning needs, without a weight read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trimtab import anatomy
from trimtab.core.errors import BadInput
from trimtab.load import builtin, hub
from trimtab.load.checkpoint import read_json
from trimtab.load.config import model_class, read_config
from trimtab.load.processors import open_processors
from trimtab.load.skeleton import skeleton


@dataclass(frozen=True)
class Blank:
    """``processor``: the model's processor or tokenizer, None where ``folder`` holds none."""

    anatomy: anatomy.Anatomy
    processor: Any
    folder: Path


def blank(name: str, revision: str | None = None) -> anatomy.Anatomy:
    """The anatomy of ``name`` with empty weights. Raises BadInput where there is no config (a ``.gguf`` file has none
    that can be read without converting it)."""
    return _empty(_folder(name, revision))


def opened(name: str, revision: str | None = None) -> Blank:
    """The same, with what belongs to the model beside its weights. Raises as ``blank`` does."""
    folder = _folder(name, revision)
    return Blank(_empty(folder), open_processors(folder).processor, folder)


def _folder(name: str, revision: str | None) -> Path:
    if name.startswith("builtin:"):
        return builtin.builtin_folder(name.removeprefix("builtin:"))
    if name.endswith(".gguf"):
        raise BadInput(f"plan: {name!r} is a GGUF file; plan the folder that it is converted to, or run the recipe")
    return Path(name) if Path(name).is_dir() else hub.hub_folder(name, revision, False)


def _empty(folder: Path) -> anatomy.Anatomy:
    kind, _ = model_class(folder, read_json(folder / "config.json"), False)
    return anatomy.of(skeleton(kind, read_config(folder), torch.bfloat16))
