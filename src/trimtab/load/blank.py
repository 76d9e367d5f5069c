"""A model's anatomy from its config alone, on the meta device: what planning needs, without a weight read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trimtab import anatomy
from trimtab.core.errors import BadInput
from trimtab.load import artifact, builtin, gguf, hub
from trimtab.load.checkpoint import read_json
from trimtab.load.config import model_class, read_config
from trimtab.load.manifest import FILE, SOURCE
from trimtab.load.processors import open_processors
from trimtab.load.skeleton import skeleton


@dataclass(frozen=True)
class Blank:
    """``processor``: the model's processor or tokenizer, None where ``folder`` holds none. ``policies`` that an
    artifact came with, None for any other model."""

    anatomy: anatomy.Anatomy
    processor: Any
    folder: Path
    policies: Sequence[Any] | None = None


def blank(name: str, revision: str | None = None) -> anatomy.Anatomy:
    """The anatomy of ``name`` with empty weights. Raises BadInput where there is no config (a ``.gguf`` file has none
    that can be read without converting it)."""
    return opened(name, revision).anatomy


def opened(name: str, revision: str | None = None, convert: bool = False) -> Blank:
    """The same, with what belongs to the model beside its weights. ``convert``: a ``.gguf`` file, as loading it would
    do. Raises as ``blank`` does."""
    folder = _folder(name, revision, convert)
    if (folder / FILE).is_file():
        source = folder / SOURCE
        found, policies = artifact.bare(folder)
        return Blank(found, open_processors(source).processor, source, policies)
    return Blank(_empty(folder), open_processors(folder).processor, folder)


def _folder(name: str, revision: str | None, convert: bool) -> Path:
    if name.startswith("builtin:"):
        return builtin.builtin_folder(name.removeprefix("builtin:"))
    if name.endswith(".gguf"):
        if convert:
            return gguf.convert(Path(name), torch.bfloat16)
        raise BadInput(f"plan: {name!r} is a GGUF file; plan the folder that it is converted to, or run the recipe")
    return Path(name) if Path(name).is_dir() else hub.hub_folder(name, revision, False)


def _empty(folder: Path) -> anatomy.Anatomy:
    kind, _ = model_class(folder, read_json(folder / "config.json"), False)
    return anatomy.of(skeleton(kind, read_config(folder), torch.bfloat16))
