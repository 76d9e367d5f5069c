"""An artifact by the library's own forward, with our kernels for its products."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from trimtab.engines.base import Answer, Words, clocked
from trimtab.engines.heard import batch_of, likeliest


class Library:
    """``word``: what answers to one token behind a cache; ``cache``: makes an empty one for so many tokens."""

    def __init__(self, model: Any, word: Callable[..., Any], cache: Callable[[int], Any]) -> None:
        self.model, self.word, self.cache = model, word, cache

    @torch.inference_mode()
    def likeliest(self, ids: Sequence[int], count: int) -> Words:
        return likeliest(self.model(**batch_of(ids), use_cache=False, logits_to_keep=1).logits[0, -1], count)

    @torch.inference_mode()
    def answer(self, ids: Sequence[int], most: int, ends: Collection[int] = ()) -> Answer:
        return clocked(self._words(ids, most), ends)

    def _words(self, ids: Sequence[int], most: int) -> Iterator[int]:
        cache = self.cache(len(ids) + most)
        found = self.model(input_ids=torch.tensor([list(ids)]), past_key_values=cache, logits_to_keep=1)
        for at in range(len(ids), len(ids) + most):
            said = int(found.logits[0, -1].argmax())
            yield said
            if at + 1 < len(ids) + most:
                place = torch.tensor([[at]])
                found = self.word(input_ids=torch.tensor([[said]]), past_key_values=cache, position_ids=place)


def open_session(path: Path) -> Library:
    """With the artifact's policies, where it has any: by the loop then."""
    from trimtab.load.artifact import read
    from trimtab.runtime.place import keeps_copies

    loaded = read(path, lowered=False)
    loaded.lower(release=not keeps_copies(loaded.library))
    loaded.engine = None
    model, library = loaded.model, loaded.library
    empty = (lambda: DynamicCache(config=library.config)) if model is library else model.empty_cache
    return Library(model, model, lambda _: empty())
