"""The control of token reduction: as many image tokens, chosen uniformly without looking.

Not a published method: it is what one must beat (FastV's ablation calls it K = 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.keep import Keep, Place, Sight, share
from trimtab.core.stats import IMAGE


@dataclass(frozen=True)
class RandomTokens:
    """``keep``: the share of image tokens that stays, above 0, at most 1; ``layer``: on entering which; ``seed``."""

    keep: float
    layer: int = 0
    seed: int = 0

    CARD: ClassVar[Card] = Card(
        name="random_tokens",
        family="tokens",
        title="Control: image tokens chosen uniformly at random",
        year=2024,
        where="the control at K = 0 of arXiv 2403.06764",
        saves="prefill",
        establishes=("tokens_kept",),
        preserves=("on_grid", "acts_8bit", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
        departures="The choice depends on the seed and the number of image tokens alone: repeat it over seeds.",
    )

    def policy(self) -> Keep:
        return Keep(score=partial(lots, seed=self.seed), budget=share(self.keep), at=Place(layer=self.layer))


def lots(sight: Sight, seed: int) -> Float[Tensor, "b t"]:
    """One uniform number for each image token, drawn anew for each row so that its neighbours do not matter."""
    image = sight.stream.kinds == IMAGE
    score = torch.zeros(image.shape)
    for row, where in enumerate(image.cpu()):
        score[row, where] = torch.rand(int(where.sum()), generator=torch.Generator().manual_seed(seed))
    return score.to(image.device)
