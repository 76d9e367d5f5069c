"""Answers of a model to a search's questions, synced batch by batch: what is there is not asked again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from trimtab.data.sample import Sample
from trimtab.evaluate.prediction import Prediction
from trimtab.evaluate.vqa import longest, predict
from trimtab.run.journal import append, whole_lines
from trimtab.run.recipe import Recipe, Step
from trimtab.run.search.compose import key

Answers = list[Prediction]
Progress = Callable[[int, int], None]


def named(given: Sequence[Step]) -> str:
    """What the answers of a model with these steps are called: a point that was killed while it was asked finds those
    that it has given."""
    return hashlib.sha256(key(given).encode()).hexdigest()[:16] if given else "before"


@dataclass(frozen=True)
class Asking:
    """Questions of a recipe's task, and the folder in which answers to them lie, one file for each model."""

    recipe: Recipe
    samples: Sequence[Sample]
    folder: Path

    def known(self, name: str) -> Answers:
        """What a model has answered; the words themselves are not kept."""
        return [Prediction(**row) for row in whole_lines(self.folder / f"{name}.jsonl")]

    def answers(self, name: str, loaded: Any) -> Iterator[Answers]:
        """All answers so far, longer by a batch each time; those that are known come as one."""
        given, task = self.recipe.evaluate, self.recipe.task
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        every = self.known(name)
        if every:
            yield list(every)
        asked = self.samples[len(every) :]
        tokens = min(given.max_new_tokens, longest(loaded.processor, self.samples))
        found = predict(loaded.model, loaded.processor, asked, batch_size=given.batch_size, max_new_tokens=tokens,
                        prompt=task.prompt, metric_name=task.metric)  # fmt: skip
        while part := [replace(one, text="") for one in islice(found, given.batch_size)]:
            append(self.folder / f"{name}.jsonl", [asdict(one) for one in part])
            every += part
            yield list(every)

    def all(self, name: str, loaded: Any, progress: Progress = lambda done, total: None) -> Answers:
        """The answers to all questions."""
        every = self.known(name)
        if len(every) < len(self.samples):
            for every in self.answers(name, loaded):
                progress(len(every), len(self.samples))
        return every
