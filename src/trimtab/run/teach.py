"""What an adapter is trained on: prompts with their answers, and the loss of the answers' tokens alone.

    loss = - sum over the answer's tokens and the end of log p(token | picture, question, what came before)

The prompt is made as for generation and padded on the left, the answer put behind it, so that training sees the very
tokens that decoding will. Logits are taken where an answer is, not at every position. Pictures' features are computed
once, where neither the tower nor the projector is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor
from torch.nn import functional as F

from trimtab.anatomy import loop
from trimtab.anatomy.vlm import Given, Joined
from trimtab.core.errors import BadInput
from trimtab.data.sample import Sample
from trimtab.data.split import choose
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.prompt import encode, render, tokenizer_of
from trimtab.run.context import Context
from trimtab.run.targets import select

REMEMBERED = 1 << 30
"""Bytes of pictures' features that are kept at most."""


@dataclass(frozen=True)
class Lesson:
    """A question with its answer's token ids, the end included."""

    sample: Sample
    answer: tuple[int, ...]


def lesson(sample: Sample, words: Any) -> Lesson:
    """A sample with its answer's tokens by the tokenizer ``words``, and the end where it has one."""
    end = () if words.eos_token_id is None else (int(words.eos_token_id),)
    return Lesson(sample, (*words(sample.answer, add_special_tokens=False)["input_ids"], *end))


def batch(
    context: Context, task: Task, chosen: Sequence[Lesson]
) -> tuple[dict[str, Tensor], Integer[Tensor, "b answers"]]:
    """The model's inputs, and the token that each of the last columns is to be followed by (-1: none)."""
    processor = context.loaded.processor
    images = [one.sample.open() for one in chosen if one.sample.open is not None]
    rendered = [render(processor, one.sample.question, int(one.sample.open is not None), task.prompt)
                for one in chosen]  # fmt: skip
    prompts = encode(processor, [text for text, _ in rendered], images, rendered[0][1])
    shape, longest = prompts["input_ids"].shape, max(len(one.answer) for one in chosen)
    targets = torch.full((len(chosen), longest), -1)
    for row, one in enumerate(chosen):
        targets[row, : len(one.answer)] = torch.tensor(one.answer)
    made = {name: F.pad(value, (0, longest)) if value.shape == shape else value for name, value in prompts.items()}
    made["input_ids"][:, shape[1] :] = targets.clamp(min=0)
    made["attention_mask"][:, shape[1] :] = (targets >= 0).long()
    for name, value in made.items():
        if value.is_floating_point():
            made[name] = value.to(context.loaded.library.dtype)
    return made, targets


@dataclass
class Class:
    """The lessons of a run, and the loss of some of them."""

    context: Context
    task: Task
    train: Sequence[Lesson]
    held: Sequence[Lesson]
    frozen: bool
    seen: dict[str, Tensor] = field(default_factory=dict)

    def loss(self, chosen: Sequence[Lesson]) -> tuple[Tensor, int]:
        """The summed loss of the answers, in float32, and how many tokens they have."""
        inputs, targets = batch(self.context, self.task, chosen)
        given, anatomy = self.context.loaded, self.context.loaded.anatomy
        features = self._features(chosen, inputs)
        body: Any = anatomy if features is None else Given(anatomy, inputs, features)
        policies = [one.policy() for one in given.policies]
        found = loop.prefill(body, inputs, policies, logits_to_keep=targets.shape[1] + 1).logits[:, :-1]
        here = targets >= 0
        loss = F.cross_entropy(found[here].float(), targets[here], reduction="sum")
        return loss, int(here.sum())

    def _features(self, chosen: Sequence[Lesson], inputs: dict[str, Tensor]) -> Tensor | None:
        """The pictures' features, remembered by picture; None where they have to be computed within the graph."""
        anatomy = self.context.loaded.anatomy
        names = [one.sample.picture for one in chosen]
        if not (self.frozen and isinstance(anatomy, Joined) and anatomy.EVEN and all(names)):
            return None
        if any(name not in self.seen for name in names):
            with torch.no_grad():
                each = anatomy.features(inputs).chunk(len(names))
            held = sum(one.nbytes for one in self.seen.values())
            if held + sum(one.nbytes for one in each) > REMEMBERED:
                self.seen.clear()
            self.seen.update({str(name): one.clone() for name, one in zip(names, each, strict=True)})
        return torch.cat([self.seen[str(name)] for name in names])


def taught(context: Context, method: Any) -> Task:
    """What is trained on. Raises BadInput for a task without answers, and for the split of a task that is measured."""
    task, split = context.recipe.task, context.recipe.calibrate.split
    if method.dataset is not None and method.dataset != task.dataset:
        task = Task.parse({"type": task.type, "dataset": method.dataset})
    if task.type == "text":
        raise BadInput("lora: trains on questions with answers; a task of type 'text' has none")
    for index, other in enumerate((context.recipe.task, *context.recipe.also)):
        if (other.dataset, other.data, other.split) == (task.dataset, task.data, split):
            key = f"also.{index - 1}.split" if index else "task.split"
            raise BadInput(f"calibrate.split: got {split!r}, which lora would train on and {key} is measured on; "
                           "accepted: another split")  # fmt: skip
    return task


def lessons(context: Context, method: Any) -> Class:
    """The task's training side as ``method`` asks for it, whole groups held out for validation.

    Raises BadInput as ``taught`` does, and for too few samples to hold any out.
    """
    task = taught(context, method)
    chosen = samples(task, context.recipe.calibrate.split, method.num_samples, method.seed)
    words = tokenizer_of(context.loaded.processor)
    made = [lesson(one, words) for one in chosen]
    groups = sorted({one.group or one.id for one in chosen})
    count = round(method.validation * len(groups))
    if method.validation and not 0 < count < len(groups):
        raise BadInput(f"lora.validation: got {method.validation} of {len(groups)} groups; accepted: a share that "
                       "holds some out and leaves some (or 0: none, and nothing ends training early)")  # fmt: skip
    out = set(choose(groups, groups, count, method.seed))
    held = [one for one in made if (one.sample.group or one.sample.id) in out]
    train = [one for one in made if (one.sample.group or one.sample.id) not in out]
    parts = {context.loaded.anatomy.part_of(name) for name in select(context.loaded.anatomy, method.target_modules)}
    return Class(context, task, train, held, frozen=not parts & {"vision", "projector"})
