"""Which tokens to keep: a score, a budget, a pick, an act and a place.

The loop (``trimtab.anatomy.loop``) owns the streams and the slots; a policy sees a ``Sight`` and answers with indices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.stats import IMAGE, PADDING


@dataclass(frozen=True)
class Stream:
    """Tokens on their way through a model.

    ``x`` hidden states; ``positions`` as the model counts them (never renumbered after dropping); ``kinds`` (0 text,
    1 image, 2 video, 3 padding, 4 audio); ``valid`` False at padding; ``source`` the index of each token in the
    sequence as it was given; ``side`` per-token tensors (b, t, ...) that are gathered along.
    """

    x: Float[Tensor, "b t d"]
    positions: Integer[Tensor, "b t"]
    kinds: Integer[Tensor, "b t"]
    valid: Bool[Tensor, "b t"]
    source: Integer[Tensor, "b t"]
    side: dict[str, Tensor] = field(default_factory=dict)

    def gather(self, index: Integer[Tensor, "b n"], valid: Bool[Tensor, "b n"]) -> Stream:
        """The tokens at ``index``, in that order; entries that are not ``valid`` become padding."""

        def take(t: Tensor) -> Tensor:
            more = t.shape[2:]
            return t.gather(1, index.view(*index.shape, *(1 for _ in more)).expand(*index.shape, *more))

        kinds = torch.where(valid, take(self.kinds), PADDING)
        side = {name: take(value) for name, value in self.side.items()}
        return replace(self, x=take(self.x), positions=take(self.positions), kinds=kinds,
                       valid=valid & take(self.valid), source=take(self.source), side=side)  # fmt: skip


@dataclass(frozen=True)
class Sight:
    """What a policy may look at: the stream before layer ``layer``, and the queries and keys (after rotary) of the
    layer before it where there is one: q (b, heads, t, d), k (b, kv_heads, t, d), ``mask`` (b, 1, t, t) True if seen.
    """

    stream: Stream
    layer: int
    q: Float[Tensor, "b h t d"] | None = None
    k: Float[Tensor, "b g t d"] | None = None
    mask: Bool[Tensor, "b 1 t s"] | None = None
    scaling: float | None = None


Score = Callable[[Sight], Float[Tensor, "b t"]]
Budget = Callable[[int], int]
Pick = Callable[[Sight, Float[Tensor, "b t"], Integer[Tensor, " b"]], Bool[Tensor, "b t"]]


@dataclass(frozen=True)
class Place:
    """Where a policy acts: on the tokens that enter decoder layer ``layer`` (0: as they leave the projector)."""

    axis: Literal["token"] = "token"
    when: Literal["prefill"] = "prefill"
    layer: int = 0


def share(keep: float) -> Budget:
    """At least one of n, else keep * n, rounded half up. Raises ValueError outside (0, 1]."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep: got {keep}; accepted: above 0, at most 1 (the share that is kept)")
    return lambda n: min(n, max(1, int(keep * n + 0.5)))


def alike(sight: Sight) -> Float[Tensor, "b t"]:
    """0 for every token: the score of methods whose pick looks at the set, not at one token."""
    return torch.zeros(sight.stream.kinds.shape, device=sight.stream.kinds.device)


def topk(sight: Sight, scores: Float[Tensor, "b t"], count: Integer[Tensor, " b"]) -> Bool[Tensor, "b t"]:
    """True at the ``count`` best-scored image tokens of each row; ties go to the earlier token."""
    image = sight.stream.kinds == IMAGE
    order = scores.masked_fill(~image, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return image & (rank < count[:, None])


@dataclass(frozen=True)
class Keep:
    """A token policy: of a sequence's image tokens, ``pick`` marks ``budget(n)`` to keep; text is never dropped."""

    score: Score
    budget: Budget
    pick: Pick = topk
    at: Place = Place()

    def chosen(self, sight: Sight) -> Bool[Tensor, "b t"]:
        """True at every token that stays: all valid text, and the picked image tokens."""
        stream = sight.stream
        image = stream.kinds == IMAGE
        count = torch.tensor([self.budget(n) if n else 0 for n in image.sum(1).tolist()], device=image.device)
        picked = self.pick(sight, self.score(sight), count)
        return stream.valid & (picked | ~image)


class TokenMethod(Protocol):
    """A frozen dataclass of knobs that names a policy."""

    CARD: ClassVar[Card]

    def policy(self) -> Keep: ...
