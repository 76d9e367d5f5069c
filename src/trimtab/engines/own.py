"""An artifact by its plan, weights once in memory where they are many; without guesses: their worth is the text's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from trimtab.core.errors import Refused
from trimtab.engines.base import Answer, Words, clocked
from trimtab.engines.heard import batch_of, likeliest
from trimtab.runtime.plan.greedy import greedy


class Own:
    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.inference_mode()
    def likeliest(self, ids: Sequence[int], count: int) -> Words:
        return likeliest(self.model(**batch_of(ids), use_cache=False, logits_to_keep=1).logits[0, -1], count)

    @torch.inference_mode()
    def answer(self, ids: Sequence[int], most: int, ends: Collection[int] = ()) -> Answer:
        return clocked(chain.from_iterable(greedy(self.model, batch_of(ids), most, guessing=False)), ends)


def open_session(path: Path) -> Own:
    """Raises Refused where the model has no plan."""
    from trimtab.load.artifact import read
    from trimtab.runtime.place import keeps_copies

    loaded = read(path, lowered=False)
    report = loaded.lower(release=not keeps_copies(loaded.library))
    if loaded.engine is None:
        raise Refused(f"no plan: {report.planless}")
    return Own(loaded.model)
