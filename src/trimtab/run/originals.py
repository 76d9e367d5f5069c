"""The matrices of the model as it came, for steps that make up for what earlier steps have lost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from trimtab.core.linear import Host
from trimtab.load.sources import open_source
from trimtab.run.recipe import Recipe


@dataclass(frozen=True)
class Originals:
    """Reads a matrix by its host's name. The source is opened again when the first is asked for; unless the model is
    ``streamed``, it takes as much memory as the untouched model until this is let go."""

    recipe: Recipe
    streamed: bool = False

    @cached_property
    def hosts(self) -> dict[str, Host]:
        given = self.recipe
        loaded = open_source(
            given.model,
            revision=given.revision,
            dtype=given.dtype,
            trust_remote_code=given.trust_remote_code,
            stream=self.streamed,
        )
        return dict(loaded.anatomy.linears()) | dict(loaded.anatomy.embeddings())

    def __call__(self, name: str) -> Tensor:
        return self.hosts[name].w.dense()
