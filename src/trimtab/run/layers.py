"""Checkpoints of a step: the changed weights of one block, in one safetensors file that is whole or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import safe_open

from trimtab.core.acts import Rounding
from trimtab.core.build import build
from trimtab.core.errors import BadInput
from trimtab.core.files import replacing
from trimtab.core.place import places
from trimtab.core.staticacts import activation
from trimtab.core.tensorfile import save_tensors
from trimtab.core.weight import Weight

NONE: Mapping[str, Rounding] = MappingProxyType({})


class Layers:
    """The blocks of one step, by index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.safetensors"

    def put(
        self,
        index: int,
        weights: Mapping[str, Weight],
        report: list[dict[str, Any]],
        acts: Mapping[str, Rounding] = NONE,
    ) -> None:
        """Store the weights of block ``index`` by host path, what is said of them, and for those whose input is rounded
        how."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tensors = {
            f"{path}//{name}": t.contiguous() for path, w in weights.items() for name, t in w.state_dict().items()
        }
        about = {"specs": json.dumps({path: w.spec() for path, w in weights.items()}), "report": json.dumps(report)}
        about |= {"acts": json.dumps({path: one.spec() for path, one in acts.items()})}
        with replacing(self.path(index)) as temporary:
            save_tensors(temporary, tensors, about)

    def has(self, index: int) -> bool:
        return self.path(index).exists()

    def get(self, index: int) -> tuple[dict[str, Weight], list[dict[str, Any]]] | None:
        """The weights and the report of block ``index``, or None where it was not finished."""
        if not self.has(index):
            return None
        with safe_open(self.path(index), "pt") as file:
            about = file.metadata()
        held, found = places(self.path(index)), dict[str, Weight]()
        for path, spec in json.loads(about["specs"]).items():
            found[path] = build(spec)
            names = list(found[path].state_dict())
            found[path].load_state_dict({name: held[f"{path}//{name}"].read() for name in names}, assign=True)
        return found, json.loads(about["report"])

    def acts(self, index: int) -> dict[str, Rounding]:
        """Of the hosts of block ``index`` whose input is rounded, how; none where it was not finished. Raises BadInput
        for the file of an earlier Trimtab, which does not say."""
        if not self.has(index):
            return {}
        with safe_open(self.path(index), "pt") as file:
            stored = file.metadata().get("acts")
        if stored is None:
            raise BadInput(f"{self.path(index)}: written by an earlier Trimtab, which did not record how inputs are "
                           "rounded; accepted: a run of this version (start anew)")  # fmt: skip
        return {path: activation(spec) for path, spec in json.loads(stored).items()}
