"""What a model remembers of its prompts: features of pictures, and beginnings that a plan has read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trimtab.anatomy import Anatomy
from trimtab.anatomy.recall import Recalling
from trimtab.anatomy.vlm import Joined
from trimtab.core.bounded import Bounded
from trimtab.runtime.plan.prefix import Prefixes

MOST = 256 << 20
"""Bytes of either kind."""


@dataclass(frozen=True)
class Memory:
    """Both are bounded, what was asked for longest ago goes first, and hold for the weights as they are only."""

    features: Bounded[Tensor]
    prefixes: Prefixes

    @classmethod
    def of(cls, most: int = MOST) -> Memory:
        """``most``: bytes of either kind."""
        return cls(Bounded(most), Prefixes(most))

    def over(self, anatomy: Anatomy) -> Any:
        """``anatomy``, which looks at a picture once, where it looks at pictures as a decoder's words."""
        return Recalling(anatomy, self.features) if isinstance(anatomy, Joined) else anatomy
