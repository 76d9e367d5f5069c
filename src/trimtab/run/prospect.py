"""A recipe's model as its steps will leave it, told from the config alone: what its linears will be stored as, and how
many image tokens its policies will let through.

Which tokens these are cannot be known without weights and does not matter to time: the first ones stand for them, and
what would choose them is asked in vain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab import methods
from trimtab.anatomy import Anatomy
from trimtab.anatomy.loop import Policies
from trimtab.core.keep import Keep, Merge, Sight, alike, topk
from trimtab.core.stats import IMAGE
from trimtab.core.weight import Dense, bits
from trimtab.measure.work import CODES4, ROUNDED, Piece, coded, pieces, pruned, thin
from trimtab.run.follow import targeted
from trimtab.run.recipe import Step


@dataclass
class Prospect:
    """``forms``: by name of a linear or table, the matrices that it will multiply by; ``bits``: stored in each, the
    same under both names of a tied one; ``policies``: methods that have one; ``problems``: what does not fit, in words;
    ``at_most``: some method decides by the weights' values."""

    forms: dict[str, list[Piece]]
    bits: dict[str, int]
    policies: list[Any] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    at_most: bool = False


def prospect(anatomy: Anatomy, steps: Sequence[Step], standing: Sequence[Any] = ()) -> Prospect:
    """What ``steps`` make of a model without weights; ``standing``: methods of policies that it has by now. Raises
    BadInput for targets that match nothing."""
    hosts = dict(anatomy.embeddings()) | dict(anatomy.linears())
    found = Prospect({name: pieces(host) for name, host in hosts.items()}, _bits(anatomy), list(standing))
    masked: set[str] = set()
    for index, step in enumerate(steps):
        method = methods.make(step.method, step.knobs)
        if hasattr(method, "policy"):
            found.policies.append(method)
        if not hasattr(method, "stored"):
            continue
        for name in targeted(anatomy, step, method):
            shape = hosts[name].w.shape
            try:
                method.check(shape[1], shape[0])
            except ValueError as error:
                found.problems.append(f"steps.{index}.{step.method}: {name}: {error}")
                continue
            if name not in masked or method.CARD.family != "adapt":  # there it is merged when training ends
                before, found.bits[name] = found.bits[name], method.stored(*shape, found.bits[name])
                found.forms[name] = formed(method, shape, found.forms[name], found.bits[name] - before)
            found.at_most = found.at_most or method.CARD.bounded
            masked |= {name} if "masked" in method.CARD.establishes else set()
    _tie(anatomy, found)
    return found


def formed(method: Any, shape: tuple[int, int], before: list[Piece], more: int) -> list[Piece]:
    """What a linear multiplies by after ``method``, by what its card says that it establishes; ``more``: bits that it
    adds to what was stored."""
    made, (out, width) = method.CARD.establishes, shape
    if "on_grid" in made:
        count, size = getattr(method, "bits", 4), getattr(method, "group_size", None)
        stored = method.stored(out, width, 16 * out * width) / 8
        if not isinstance(count, int) or not isinstance(size, int):
            one = Piece(CODES4, shape, stored)
        else:
            one = coded(shape, count, width if size == -1 else size, getattr(method, "symmetric", True))
        return [replace(one, form=ROUNDED) if "acts_8bit" in made else one]
    if "masked" in made:
        kept = (method.stored(out, width, 16 * out * width) / (out * width) - 1) / 16
        return [pruned(shape, min(1.0, max(0.0, kept)))]
    if "low_rank" in made or "adapter" in made:
        rank = max(1, round(abs(more) / 16 / (out + width)))
        factors = thin(shape, rank, torch.bfloat16)
        return [*before, *factors] if more > 0 else list(factors)
    return before


def policies(methods_: Sequence[Any]) -> Policies:
    """Policies for tracing: as many tokens go as will go. What decides which runs, for a prompt of one row, on random
    numbers in the shapes of the model's, for the operations that it takes; what it says is passed over. With more rows
    it is left out: of a large model that would take longer and more memory than a plan may."""
    return [_blind(method.policy()) for method in methods_]


def _blind(policy: Any) -> Any:
    if isinstance(policy, Keep):
        return replace(policy, score=alike, pick=partial(_the_first, policy))
    return replace(policy, match=partial(_into_the_first, policy)) if isinstance(policy, Merge) else policy


def _the_first(
    policy: Keep, sight: Sight, scores: Float[Tensor, "b t"], count: Integer[Tensor, " b"]
) -> Bool[Tensor, "b t"]:
    """The first ``count`` image tokens of each row."""
    if len(count) == 1:
        shown = _shown(sight)
        policy.pick(shown, policy.score(shown), count)
    return topk(sight, scores, count)


def _into_the_first(policy: Merge, sight: Sight, count: Integer[Tensor, " b"]) -> Integer[Tensor, "b t"]:
    """The first ``count`` image tokens of each row stay, the others go into the first."""
    if len(count) == 1:
        policy.match(_shown(sight), count)
    image = sight.stream.kinds == IMAGE
    here = torch.arange(image.shape[1]).expand_as(image)
    goes = image & (image.long().cumsum(1) > count[:, None])
    return torch.where(goes, image.int().argmax(1, keepdim=True), here)


def _shown(sight: Sight) -> Sight:
    """What a policy may look at, in random numbers where only shapes are known."""
    drawn = torch.Generator().manual_seed(0)

    def real(one: Tensor) -> Tensor:
        return torch.randn(one.shape, generator=drawn).to(one.dtype) if one.is_meta else one

    stream = sight.stream
    q, k, mask = (None if one is None else real(one) for one in (sight.q, sight.k, sight.mask))
    side = {name: real(value) for name, value in stream.side.items()}
    return replace(sight, stream=replace(stream, x=real(stream.x), side=side), q=q, k=k, mask=mask)


def _bits(anatomy: Anatomy) -> dict[str, int]:
    """Stored in each host: 16 for a number of a dense matrix, whatever it is computed in."""
    hosts = (*anatomy.embeddings(), *anatomy.linears())
    return {name: 16 * host.w.shape[0] * host.w.shape[1] if isinstance(host.w, Dense) else bits(host.w)
            for name, host in hosts}  # fmt: skip


def _tie(anatomy: Anatomy, found: Prospect) -> None:
    """What shares a weight with something that was changed is stored as that is."""
    untouched = _bits(anatomy)
    for pair in anatomy.aliases():
        changed = [name for name in pair if found.bits[name] != untouched[name]]
        for name in pair if changed else ():
            found.bits[name], found.forms[name] = found.bits[changed[-1]], found.forms[changed[-1]]
