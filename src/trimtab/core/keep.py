"""Which tokens to keep: a score, a budget, a pick, an act and a place. Which cache entries: ``core/evict.py``.

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

MANY = 1 << 30
"""More tokens than any prompt has."""
SIZE = "size"  # (b, t) in ``Stream.side``: how many tokens each one stands for, where some were merged
Act = Literal["drop", "merge", "requantize"]


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

    def sizes(self) -> Float[Tensor, "b t"]:
        """How many tokens each one stands for: 1 where nothing was merged."""
        found = self.side.get(SIZE)
        return torch.ones(self.valid.shape, device=self.x.device) if found is None else found

    def fold(self, into: Integer[Tensor, "b t"]) -> Stream:
        """Every token merged into the one at its place ``into`` (its own where it stays), which keeps position and
        source: x and floating side tensors become means weighted by size, sizes add up. None is taken out here."""
        size = self.sizes()
        total = torch.zeros_like(size).scatter_add_(1, into, size)

        def mean(t: Tensor) -> Tensor:
            one = (...,) + (None,) * (t.ndim - 2)
            summed = torch.zeros(t.shape, device=t.device).scatter_add_(
                1, into[one].expand_as(t), t.float() * size[one]
            )
            return torch.where((total > size)[one], (summed / total[one]).to(t.dtype), t)

        side = {name: mean(value) if value.is_floating_point() else value for name, value in self.side.items()}
        return replace(self, x=mean(self.x), side={**side, SIZE: total})


@dataclass(frozen=True)
class Sight:
    """What a policy may look at: the stream before layer ``layer``, and the queries and keys (after rotary) of the
    layer before it where there is one: q (b, heads, t, d), k (b, kv_heads, t, d), ``mask`` (b, 1, t, t) True if seen,
    or what is added to q . k once tokens were merged. A cache policy is shown the layer whose entries it chooses from.
    """

    stream: Stream
    layer: int
    q: Float[Tensor, "b h t d"] | None = None
    k: Float[Tensor, "b g t d"] | None = None
    mask: Bool[Tensor, "b 1 t s"] | Float[Tensor, "b 1 t s"] | None = None
    scaling: float | None = None


Score = Callable[[Sight], Float[Tensor, "b t"]]
Budget = Callable[[int], int]
Pick = Callable[[Sight, Float[Tensor, "b t"], Integer[Tensor, " b"]], Bool[Tensor, "b t"]]


@dataclass(frozen=True)
class Place:
    """Where a policy acts: on the tokens that enter decoder layer ``layer`` (0: as they leave the projector), or on the
    cache of every layer: once, when the prompt is in (``prefill``), or after each later token too (``step``)."""

    axis: Literal["token", "cache"] = "token"
    when: Literal["prefill", "step"] = "prefill"
    layer: int = 0


def share(keep: float) -> Budget:
    """At least one of n, else keep * n, rounded half up. Raises ValueError outside (0, 1]."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep: got {keep}; accepted: above 0, at most 1 (the share that is kept)")
    return lambda n: min(n, max(1, int(keep * n + 0.5)))


def keeps_all(budget: Budget) -> bool:
    """Whether nothing goes, however much there is."""
    return budget(MANY) >= MANY


def alike(sight: Sight) -> Float[Tensor, "b t"]:
    """0 for every token: the score of methods whose pick looks at the set, not at one token."""
    return torch.zeros(sight.stream.kinds.shape, device=sight.stream.kinds.device)


def topk(sight: Sight, scores: Float[Tensor, "b t"], count: Integer[Tensor, " b"]) -> Bool[Tensor, "b t"]:
    """True at the ``count`` best-scored image tokens of each row; ties go to the earlier token."""
    return best(scores, sight.stream.kinds == IMAGE, count[:, None])


def best(scores: Float[Tensor, "*b t"], among: Bool[Tensor, "*b t"], count: Tensor | int) -> Bool[Tensor, "*b t"]:
    """True at the ``count`` best-scored ``among`` each row, or at all of them; ties go to the earlier one."""
    order = scores.masked_fill(~among, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(-1, order, places)
    return among & (rank < count)


def counts(sight: Sight, budget: Budget) -> Integer[Tensor, " b"]:
    """How many of its image tokens each row keeps."""
    found = (sight.stream.kinds == IMAGE).sum(1)
    return torch.tensor([budget(n) if n else 0 for n in found.tolist()], device=found.device)


@dataclass(frozen=True)
class Keep:
    """A token policy: of a sequence's image tokens, ``pick`` marks ``budget(n)`` to keep; text is never dropped."""

    score: Score
    budget: Budget
    pick: Pick = topk
    at: Place = Place()
    act: ClassVar[Act] = "drop"

    @property
    def idle(self) -> bool:
        """Whether every token stays: then there is nothing to score."""
        return keeps_all(self.budget)

    def chosen(self, sight: Sight) -> Bool[Tensor, "b t"]:
        """True at every token that stays: all valid text, and the picked image tokens."""
        stream = sight.stream
        image = stream.kinds == IMAGE
        picked = self.pick(sight, self.score(sight), counts(sight, self.budget))
        return stream.valid & (picked | ~image)


Match = Callable[[Sight, Integer[Tensor, " b"]], Integer[Tensor, "b t"]]


@dataclass(frozen=True)
class Merge:
    """A token policy that loses none: of a sequence's n image tokens ``budget(n)`` stay, the others go into them.
    ``match`` gives for each token the place of the one that it goes into, its own where it stays."""

    match: Match
    budget: Budget
    at: Place = Place()
    act: ClassVar[Act] = "merge"

    @property
    def idle(self) -> bool:
        """Whether no token goes into another one."""
        return keeps_all(self.budget)

    def into(self, sight: Sight) -> Integer[Tensor, "b t"]:
        """The place of the token that stands for each one from here on."""
        return self.match(sight, counts(sight, self.budget))

    def chosen(self, sight: Sight) -> Bool[Tensor, "b t"]:
        """True at every token that stays."""
        into = self.into(sight)
        return sight.stream.valid & (into == torch.arange(into.shape[1], device=into.device))


class TokenMethod(Protocol):
    """A frozen dataclass of knobs that names a policy."""

    CARD: ClassVar[Card]

    def policy(self) -> Keep | Merge: ...
