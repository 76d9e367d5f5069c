"""Greedy decoding by a plan, a token or a few at a time, and the words that are asked for nothing else.

Prompt lookup (Saxena 2023): where the newest words have stood before, the words that followed them then are likely to
follow now. They are put in as further rows of the same step, which reads the matrices once for all; as many as the
model itself would have said are kept. At most ``MOST`` rows go through the products of a single one, whose sums are
the same to the bit, so the answer is exactly that without a guess.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trimtab.anatomy.base import Batch
from trimtab.runtime.plan.entries import Cache
from trimtab.runtime.plan.model import Moved, Planned

MOST = 4
"""Rows of a step whose products are those of one row."""
LONGEST, SHORTEST = 3, 1
"""Words that must have stood before."""
TRIALS = 8
"""Steps of either kind before guessing may be given up."""


@dataclass
class Pace:
    """What guessing costs and brings: ``alone`` and ``guessed``: seconds and words of steps without and with."""

    alone: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    guessed: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def add(self, rows: int, seconds: float, words: int) -> None:
        of = self.alone if rows == 1 else self.guessed
        of[0], of[1], of[2] = of[0] + seconds, of[1] + words, of[2] + 1

    @property
    def pays(self) -> bool:
        """Whether guessed steps bring their words at no more seconds each; so until there are enough of both kinds."""
        if min(self.alone[2], self.guessed[2]) < TRIALS:
            return True
        return self.guessed[0] / self.guessed[1] <= self.alone[0] / self.alone[1]


def guess(words: Sequence[int], most: int) -> list[int]:
    """The words that followed where the newest ones have stood before, the longest match first, then the newest."""
    for length in range(min(LONGEST, len(words) - 1), SHORTEST - 1, -1):
        newest = list(words[-length:])
        for start in range(len(words) - length - 1, -1, -1):
            if list(words[start : start + length]) == newest:
                return list(words[start + length : start + length + most])
    return []


def greedy(
    model: Planned, batch: Batch, most: int, ends: Sequence[int] = (), *, guessing: bool = True
) -> Iterator[list[int]]:
    """The answer to one prompt, as its words come, an end among them; ``most`` words at most."""
    slots, pace = Moved(), Pace()
    logits = model.prompt(batch, slots, 1)
    words, said = batch["input_ids"][0].tolist(), [int(logits[0, -1].argmax())]
    assert slots.following is not None
    cache, at, room = slots.move(1), int(slots.following), model.engine.plan.angles.most
    yield list(said)
    while len(said) < most and said[-1] not in ends:
        begun = time.perf_counter()
        guessed = guess(words + said, min(MOST, most - len(said), room - at) - 1) if guessing and pace.pays else []
        kept = _step(model, cache, [said[-1], *guessed], at)
        kept = kept[: next((i + 1 for i, word in enumerate(kept) if word in ends), len(kept))]
        at += len(kept)
        said += kept
        pace.add(1 + len(guessed), time.perf_counter() - begun, len(kept))
        yield kept


def _step(model: Planned, cache: Cache, rows: list[int], at: int) -> list[int]:
    """What the model says behind each of ``rows``, as far as the next row is what it said; the others are forgotten."""
    count = len(rows)
    found = model.engine.step(
        cache, torch.tensor(rows), torch.arange(at, at + count), torch.zeros(count, dtype=torch.int32),
        wanted=torch.ones(count, dtype=torch.bool), logits=False,
    )  # fmt: skip
    said: Tensor = found.best
    right = next((i for i in range(count - 1) if int(said[i]) != rows[i + 1]), count - 1)
    for entries in cache.sequences[0]:
        entries.count -= count - 1 - right
    return said[: right + 1].tolist()
