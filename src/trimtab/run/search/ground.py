"""What every point of a search stands on: the space, the untouched model's figures and answers, and the bench.

Facts that were found once are stages of the journal; the model is loaded when something is to be trimmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput
from trimtab.data.sample import Sample
from trimtab.evaluate.shares import accuracy
from trimtab.measure import params
from trimtab.measure.latency import reading
from trimtab.measure.vlm import parts
from trimtab.run import audit, calibration, check, timing
from trimtab.run.context import Context
from trimtab.run.search.asking import Answers, Asking
from trimtab.run.search.bench import Bench, cached, in_turn, opened
from trimtab.run.search.compose import Shape
from trimtab.run.search.folds import flat, folds, unread
from trimtab.run.search.goals import NOT_TAKEN, Goal, goals
from trimtab.run.search.place import Wanted
from trimtab.run.search.point import Objective, objectives
from trimtab.run.search.space import Knob, Space, derive, legal, narrowed
from trimtab.run.search.trying import REPEATS, Trying


@dataclass
class Ground:
    """``context``: without a model, its folder one for what steps leave behind; ``state``: the search's own."""

    context: Context
    wanted: Wanted
    state: Path

    @cached_property
    def bench(self) -> Bench:
        """The model, checked. Raises BadInput for what cannot be searched, Refused for blind calibration."""
        context, recipe = self.context, self.wanted.recipe
        if recipe.task.type == "text":
            raise BadInput("task.type: got 'text'; a search counts right answers; accepted: vqa, classify")
        context.folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        context.folder.private()
        context.progress("load", 0, 1)
        context.loaded = opened(recipe)
        check.fits(context)
        made = Bench(context)
        assert made.original  # as they came, before anything is trimmed
        context.journal.stage("check", lambda: check.loop_equals_library(context))
        task = recipe.task.model_copy(update={"split": recipe.calibrate.split})  # the test split is not looked at here
        seen = replace(context, recipe=recipe.model_copy(update={"task": task}))
        context.journal.stage("audit", lambda: calibration.audit(seen, made.batches))
        context.progress("load", 1, 1)
        return made

    @cached_property
    def space(self) -> Space:
        """The knobs, as they were derived when the search began."""
        row = self.context.journal.stage("space", self._space)
        knobs = tuple(Knob(**(one | {"choices": tuple(one["choices"])})) for one in row["knobs"])
        return Space(knobs, Shape(**(row["shape"] | {"parts": tuple(row["shape"]["parts"])})))

    def _space(self) -> dict[str, Any]:
        bench, recipe = self.bench, self.wanted.recipe
        anatomy = self.context.loaded.anatomy
        hosts = (*anatomy.embeddings(), *anatomy.linears())
        found = audit.count(anatomy, [calibration.sample_batch(self.context, 8, recipe.calibrate.split)])
        shape = Shape(tuple(dict.fromkeys(anatomy.part_of(name) for name, _ in hosts)),
                      round(found.text / found.samples), round(found.image / found.samples))  # fmt: skip
        made = legal(derive(anatomy, recipe, shape), bench.refuses)
        return asdict(narrowed(made, self.wanted.space, bench.refuses))

    @cached_property
    def asking(self) -> Asking:
        """The questions of the folds."""
        recipe = self.wanted.recipe
        return Asking(recipe, flat(folds(recipe, self.wanted.questions, self.wanted.seed)), self.state / "answers")

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        return objectives(self.wanted.recipe.measure.batch_size, self.wanted.recipe.task.name)

    @cached_property
    def base(self) -> Mapping[str, float]:
        """The untouched model's figures: of bytes those in 16 bits, and what else the budget names."""
        found: dict[str, float] = self.context.journal.stage("before", self._base)["base"]
        return found

    @cached_property
    def model(self) -> str:
        """What the model is called; of a local one the last part of its path."""
        return str(self.context.journal.stage("before", self._base)["model"])

    @cached_property
    def prompts(self) -> dict[int, Any]:
        """Prompts of the training side by batch size: of the prefill that is an objective, and of one for what else
        the budget names."""
        assert self.bench
        recipe = self.wanted.recipe
        more = {1} if recipe.budget.cache is not None or recipe.budget.decode is not None else set()
        sizes = sorted({recipe.measure.batch_size} | more)
        return {size: timing.prompts(self.context, size, recipe.calibrate.split) for size in sizes}

    def _base(self) -> dict[str, Any]:
        bench, recipe = self.bench, self.wanted.recipe
        found = {"bytes.weights": float(params.stored16(bench.context.loaded.library))}
        for size, batch in self.prompts.items():
            side = parts(bench.untouched.model, batch)
            decoding = size == 1 and recipe.budget.decode is not None
            if size == recipe.measure.batch_size or decoding:
                times = in_turn({"before": side}, REPEATS, decoding)["before"]
                found |= {f"latency.{part}.b{size}": reading(part, taken).value for part, taken in times.items()}
            if size == 1 and recipe.budget.cache is not None:
                found["bytes.cache.b1"] = cached(side)
        name = self.objectives[-1].name
        return {"base": found | {name: accuracy(name, self.before).value}, "model": bench.context.loaded.source.id}

    @cached_property
    def before(self) -> Answers:
        """The untouched model's answers to all questions."""
        told = self.context.progress
        return self.asking.all("before", self.bench.untouched, lambda done, total: told("before", done, total))

    @cached_property
    def goals(self) -> tuple[Goal, ...]:
        return goals(self.wanted.recipe, self.base)

    @cached_property
    def trying(self) -> Trying:
        """What finds out about a point."""
        return Trying(self.bench, self.asking, self.goals, self.objectives, self.base, self.before, self.prompts)

    def unread(self, reading: int) -> list[Sample]:
        """The test questions that no reading before has had."""
        return unread(self.wanted.recipe, reading)

    def notes(self) -> list[str]:
        """What a reader must know."""
        recipe = self.wanted.recipe
        found = [f"budget.{axis} is not searched: a run of a point's recipe measures it"
                 for axis in NOT_TAKEN if getattr(recipe.budget, axis) is not None]  # fmt: skip
        if recipe.budget.cache is None and recipe.budget.decode is None and "cache.bits" not in self.wanted.space:
            found.append("The cache is not searched, since no goal could gain from a smaller one; budget.cache or "
                         "budget.decode puts it in")  # fmt: skip
        return found
