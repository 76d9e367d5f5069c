"""Features of pictures by their content: a picture that was shown before is not looked at again."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.anatomy.base import Batch
from trimtab.anatomy.vlm import Joined
from trimtab.core.bounded import Bounded, digest
from trimtab.core.keep import Stream

OF_WORDS = ("token_type_ids", "mm_token_type_ids")
"""Inputs that come with pictures and say nothing of them."""
Features = Float[Tensor, "n d"]


class Recalling:
    """``anatomy``, whose tower and projector run for pictures that ``seen`` does not have; everything else is the
    anatomy's own. Pictures that are nothing but pixels are known one by one, those that come with sizes or masks all
    together. ``seen`` belongs to the weights as they are: what changes them has to begin a new one."""

    def __init__(self, anatomy: Joined, seen: Bounded[Features]) -> None:
        self.anatomy, self.seen = anatomy, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self.anatomy, name)

    def embed(self, batch: Batch) -> Stream:
        """As the anatomy's own, to rounding: a picture is looked at beside others than before. Raises as it does."""
        pixels = batch.get(self.anatomy.INPUTS[0])
        if pixels is None or not pixels.numel():
            return self.anatomy.embed(batch)
        text = self.anatomy.text(batch)
        self.anatomy.fits(batch, text)
        return self.anatomy.merge(text, self.features(batch))

    def features(self, batch: Batch) -> Features:
        """Of all pictures, in their order."""
        names = [name for name in self.anatomy.INPUTS if name not in OF_WORDS and batch.get(name) is not None]
        pixels = batch[names[0]]
        if names[1:] or pixels.ndim != 4 or not self.anatomy.EVEN:
            key = digest(*(batch[name] for name in names))
            found = self.seen.get(key)
            return self._looked(batch, [key])[0] if found is None else found
        keys = [digest(one) for one in pixels]
        known = {key: self.seen.get(key) for key in dict.fromkeys(keys)}
        new = [key for key, value in known.items() if value is None]
        if new:
            first = [keys.index(key) for key in new]
            known |= zip(new, self._looked({**batch, names[0]: pixels[first]}, new), strict=True)
        return torch.cat([value for value in map(known.get, keys) if value is not None])

    def _looked(self, batch: Batch, keys: list[bytes]) -> tuple[Features, ...]:
        """The features of as many pictures as there are ``keys``, each with an equal part of them."""
        parts = self.anatomy.features(batch).chunk(len(keys))
        for key, part in zip(keys, parts, strict=True):
            self.seen.put(key, part.clone() if len(keys) > 1 else part, part.nbytes)
        return parts
