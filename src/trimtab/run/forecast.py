"""How long each stage of a run will take, from its recipe, the model's config and this machine's ceilings.

A stage is what it does so many times: batches of questions, passes of calibration, fits, processes that begin anew. An
evaluation of n questions in batches of b takes n / b times (vision of a batch's pictures + prefill + a word for each
further token of the longest answer), and what it takes to prepare n prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from trimtab import methods
from trimtab.anatomy import Anatomy
from trimtab.data import text as texts
from trimtab.data.task import Task
from trimtab.measure.ceilings import Ceilings
from trimtab.measure.roofline import Roof
from trimtab.run import deliver, economy, steps, timing
from trimtab.run.arms import LAYERWISE
from trimtab.run.fitcost import fit_cost
from trimtab.run.follow import targeted
from trimtab.run.foresee import Phase, foresee
from trimtab.run.prompts import Asked, Batch, asked, batch_of
from trimtab.run.prospect import Prospect
from trimtab.run.queries import TOKENS, Cost, places
from trimtab.run.recipe import Recipe, Step
from trimtab.run.walk import MAX_TOKENS

WINDOW = 512
"""Words of a window of text that perplexity is taken over."""
PASSES = 3
"""What a training step takes in forwards: there, and back by weights and inputs."""
Phases = dict[str, Phase]


@dataclass(frozen=True)
class Forecast:
    """``processor``: the model's, None where none is there. ``bytes16`` and ``bytes`` of the weights, before and as the
    recipe leaves them. ``roof``: of other hardware, which runs the forward passes; all else is done here.
    ``before``: of an artifact that is trimmed again, what it is. ``opening``: seconds that its config, its processor
    and the model without weights took here."""

    recipe: Recipe
    anatomy: Anatomy
    known: Ceilings
    after: Prospect
    processor: Any
    bytes16: float
    bytes: float
    roof: Roof | None = None
    before: Prospect | None = None
    opening: float = 0.0
    traced: dict[Any, Phases] = field(default_factory=dict, repr=False)

    def phases(self, task: Task, size: int, trimmed: bool, length: int | None = None) -> Phases:
        """Of a batch of ``size`` prompts of ``task``, of ``length`` words where it is a text; traced once."""
        key = task.name, size, trimmed, length or self.recipe.measure.prompt_tokens
        if key not in self.traced:
            self.traced[key] = self.passes(batch_of(self.anatomy, self.processor, task, size, key[-1]), trimmed)
        return self.traced[key]

    def passes(self, batch: Batch, trimmed: bool = False) -> Phases:
        """Of ``batch``, here or under ``roof``."""
        return foresee(self.anatomy, batch, self.known, self.after if trimmed else self.before, self.roof)

    @cached_property
    def measured(self) -> dict[str, dict[int, Phases]]:
        """``before`` and ``after``, at batch 1 and the recipe's, of what the recipe measures time on."""
        given = self.recipe.measure
        task = self.recipe.task if given.dataset is None else Task.parse({"dataset": given.dataset})
        return {when: {size: self.phases(task, size, when == "after") for size in sorted({1, given.batch_size})}
                for when in ("before", "after")}  # fmt: skip

    def evaluation(self, task: Task, limit: int | None, trimmed: bool) -> float:
        """Of ``limit`` questions, by default as many as the recipe says."""
        given = self.recipe.evaluate
        if task.type == "text":
            count = min(texts.WINDOWS, limit or task.limit or texts.WINDOWS)
            return count * _whole(self.phases(task, 1, trimmed, WINDOW))
        how = asked(self.processor, task, limit or task.limit or given.limit, given.batch_size, given.max_new_tokens)
        return self.answers(how, self.phases(task, min(how.size, how.count), trimmed))

    def answers(self, how: Asked, found: Phases) -> float:
        """Of all batches, their prompts prepared and answered."""
        size = min(how.size, how.count)
        seen = found["vision"].seconds * how.shown / size if "vision" in found else 0.0
        words = (how.said - 1) * (found["decode"].seconds + self.known.generated)
        each = seen + found["prefill"].seconds + words + self.known.generated
        return how.count / size * each + how.count * how.prepared

    def views(self, trimmed: bool) -> float:
        """Of the questions that are asked again of worse pictures."""
        given, task = self.recipe.evaluate.robust, self.recipe.task
        times = int(given.missing_image) + len(given.corruptions) * len(given.severities)
        limit = min(given.limit, task.limit or self.recipe.evaluate.limit)
        return times * self.evaluation(task, limit, trimmed) if task.type != "text" and limit and times else 0.0

    def calibration(self) -> float:
        """Of the samples once through all blocks, as many tokens at a time as a walk takes."""
        given, task = self.recipe.calibrate, self.recipe.task
        if given.dataset is not None and given.dataset != task.dataset:
            task = Task.parse({"dataset": given.dataset})
        length = _width(batch_of(self.anatomy, self.processor, task, 1, given.max_seq_length))
        size = max(1, min(MAX_TOKENS // length, given.num_samples))
        found = self.phases(task, size, False, given.max_seq_length)
        return given.num_samples / size * sum(one.seconds for name, one in found.items() if name != "decode")

    def step(self, step: Step) -> float:
        """Of a step by its family: passes and fits, or training."""
        method = methods.make(step.method, step.knobs)
        if method.CARD.family not in LAYERWISE:
            return self.training(method) if hasattr(method, "epochs") else 0.0
        hosts = dict(self.anatomy.linears()) | dict(self.anatomy.embeddings())
        shapes = [hosts[name].w.shape for name in targeted(self.anatomy, step, method)]
        cost = fit_cost(method)
        fits = 0.0 if cost is None else cost.of(shapes)
        if method.CARD.needs == "nothing":
            return fits
        tokens = self.recipe.calibrate.num_samples * self.tokens
        peak = self.known.products["float32"]
        moments = sum(tokens * width**2 / peak.at(MAX_TOKENS, (width, width)) for _, width in set(shapes))
        layers = max(1, len(shapes) / max(1, len(set(shapes))))
        return self.calibration() + moments * layers + fits

    @cached_property
    def tokens(self) -> int:
        """Of a prompt of the task."""
        return _width(batch_of(self.anatomy, self.processor, self.recipe.task, 1, self.recipe.calibrate.max_seq_length))

    def training(self, method: Any) -> float:
        """Of an adapter: every sample ``epochs`` times there and back."""
        found = self.phases(self.recipe.task, method.batch_size, False)
        each = PASSES * found["prefill"].seconds + (found["vision"].seconds if "vision" in found else 0.0)
        return each * method.epochs * method.num_samples / method.batch_size

    def process(self, trimmed: bool) -> float:
        """Of a process that begins, loads and answers one batch."""
        found = self.measured["after" if trimmed else "before"][1]
        size = self.bytes if trimmed else self.bytes16
        return self.known.start + size / self.known.disk + deliver.GATE_ROWS * _whole(found)

    def timing(self) -> float:
        """Of the rounds that both sides are timed in, and of the two processes whose memory is taken."""
        given, found = self.recipe.measure, 0.0
        for size in sorted({1, given.batch_size}):
            each = sum(self.round(self.measured[when][size]) for when in ("before", "after"))
            rounds = min(given.repeats + 1, max(timing.LEAST + 1, 60 * given.max_minutes / each))
            found += rounds * each
        return found + self.process(False) + self.process(True) + self.economy()

    def economy(self) -> float:
        """Of joules and of the idealized runtime, at batch 1, where they are taken."""
        if not self.recipe.measure.efficiency:
            return 0.0
        sides = (self.measured[when][1] for when in ("before", "after"))
        costs = [Cost(*(one[name].seconds if name in one else 0.0 for name in ("vision", "prefill", "decode")))
                 for one in sides]  # fmt: skip
        return economy.foreseen(costs, self.tokens, places(self.anatomy.model), self.recipe.measure.repeats)

    def round(self, found: Phases) -> float:
        """Of one side once: vision and prefill after one that is not counted, then some words."""
        vision = found["vision"].seconds if "vision" in found else 0.0
        return 2 * vision + 2 * found["prefill"].seconds + TOKENS * found["decode"].seconds

    def stages(self) -> dict[str, float]:
        """Seconds by the stage's name in the journal, in order; ``load`` has no stage, for a run that goes on loads
        again."""
        recipe, tasks = self.recipe, (self.recipe.task, *self.recipe.also)
        given = recipe.evaluate
        text = recipe.task.type == "text"
        prepared = 0.0 if text else asked(self.processor, recipe.task, 8, 8, 1).prepared
        found = {
            "load": self.opening + self.bytes16 / self.known.disk,
            "check": 4 * _whole(self.measured["before"][1]),
            "audit": prepared * recipe.calibrate.num_samples,
            "before": sum(self.evaluation(task, None, False) for task in tasks) + self.views(False),
        }
        for index, step in enumerate(recipe.steps, 1):
            found[steps.key(index, step)] = self.step(step)
            asks = self.evaluation(recipe.task, given.after_step, True) if given.after_step else 0.0
            found[f"{steps.key(index, step)} figures"] = asks
        recorded = deliver.GATE_BATCHES * deliver.GATE_ROWS * _whole(self.measured["after"][1])
        found["artifact"] = self.bytes / self.known.disk + recorded
        found["after"] = sum(self.evaluation(task, None, True) for task in tasks) + self.views(True)
        found["gate"] = self.process(True) + recorded
        found["timing"] = self.timing()
        return found


def _whole(found: Phases) -> float:
    """Of one batch, read and looked at."""
    return sum(one.seconds for name, one in found.items() if name != "decode")


def _width(batch: dict[str, Tensor]) -> int:
    return int(batch["input_ids"].shape[1])
