"""A training loop of few parameters: validated, stopped early, resumable at every look, the same bit for bit.

AdamW at a rate that rises over the first twentieth of the steps and falls by a cosine. Which examples a step sees
follows from (seed, epoch), what is dropped from (seed, step). At a look, twice an epoch and at the end, the validation
loss is taken, the best parameters are remembered, and the whole state is written, in one rename.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from trimtab.core.errors import Anomaly
from trimtab.core.files import replacing
from trimtab.core.tensorfile import save_tensors

T = TypeVar("T")
Loss = Callable[[Sequence[T]], "tuple[Tensor, int]"]
"""The summed loss of some examples, and of how many terms it is the sum."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: ``patience`` looks without a lower validation loss end it."""

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    seed: int


@dataclass
class Where:
    """How far training is. ``best``: the lowest validation loss so far, ``waited``: looks since then."""

    step: int = 0
    best: float = math.inf
    waited: int = 0
    log: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Tuning(Generic[T]):
    """``parameters`` by name are trained in place on ``examples``; ``held`` are for validation and never trained on.

    ``loss`` is called within autograd. ``state``: the file in which the state is kept.
    """

    parameters: Mapping[str, nn.Parameter]
    examples: Sequence[T]
    held: Sequence[T]
    loss: Loss[T]
    schedule: Schedule
    state: Path
    progress: Callable[[int, int], None] = lambda done, total: None

    @property
    def per_epoch(self) -> int:
        return math.ceil(len(self.examples) / self.schedule.batch_size)

    @property
    def total(self) -> int:
        """Steps, if nothing ends training early."""
        return self.schedule.epochs * self.per_epoch

    def run(self) -> Where:
        """Train to the end, from where the state stands; the parameters are the best ones then. Raises Anomaly for a
        loss that is no number."""
        adam = torch.optim.AdamW(list(self.parameters.values()), weight_decay=0.0)
        where, best = self._restore(adam)
        if not where.log:
            self._look(where, best)
        while where.step < self.total and where.waited < self.schedule.patience:
            self._step(where, adam)
            self.progress(where.step, self.total)
            if where.step % max(1, self.per_epoch // 2) == 0 or where.step == self.total:
                self._look(where, best)
                self._save(where, adam, best)
        self._put(best)
        return where

    def _step(self, where: Where, adam: torch.optim.AdamW) -> None:
        epoch, at = divmod(where.step, self.per_epoch)
        order = random.Random(f"{self.schedule.seed}/{epoch}").sample(range(len(self.examples)), len(self.examples))
        size = self.schedule.batch_size
        chosen = [self.examples[i] for i in order[at * size : (at + 1) * size]]
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(1_000_003 * self.schedule.seed + where.step)
            total, count = self.loss(chosen)
            loss = total / max(1, count)
            if not torch.isfinite(loss):
                raise Anomaly(f"training: the loss is {loss.item()} at step {where.step + 1} of {self.total} "
                              f"(learning_rate {self.schedule.learning_rate}); try a lower learning_rate")  # fmt: skip
            torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), 1.0)
        for group in adam.param_groups:
            group["lr"] = self.schedule.learning_rate * self._rate(where.step)
        adam.step()
        adam.zero_grad()
        where.step += 1

    def _rate(self, step: int) -> float:
        rise = max(1, self.total // 20)
        return min((step + 1) / rise, 0.5 + 0.5 * math.cos(math.pi * step / self.total))

    @torch.no_grad()
    def _look(self, where: Where, best: dict[str, Tensor]) -> None:
        size, total, count = self.schedule.batch_size, 0.0, 0
        for at in range(0, len(self.held), size):
            found, terms = self.loss(self.held[at : at + size])
            total, count = total + float(found), count + terms
        loss = total / max(1, count)
        where.log.append({"step": where.step, "validation_loss": loss})
        where.waited += 1
        if loss < where.best or not self.held:
            where.best, where.waited = loss, 0
            best.update({name: value.detach().clone() for name, value in self.parameters.items()})

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self.parameters.items():
            value.copy_(values[name])

    def _save(self, where: Where, adam: torch.optim.AdamW, best: Mapping[str, Tensor]) -> None:
        tensors = {f"now.{name}": value.detach() for name, value in self.parameters.items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        for name, value in self.parameters.items():
            tensors |= {f"adam.{key}.{name}": torch.as_tensor(one) for key, one in adam.state.get(value, {}).items()}
        self.state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(self.state) as temporary:
            save_tensors(temporary, {key: value.contiguous() for key, value in tensors.items()},
                         {"where": json.dumps(asdict(where))})  # fmt: skip

    def _restore(self, adam: torch.optim.AdamW) -> tuple[Where, dict[str, Tensor]]:
        if not self.state.exists():
            return Where(), {}
        with safe_open(self.state, "pt") as file:
            found: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            where = Where(**json.loads(file.metadata()["where"]))
        self._put({name: found[f"now.{name}"] for name in self.parameters})
        for name, value in self.parameters.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            adam.state[value] = {key: found[f"adam.{key}.{name}"] for key in keys if f"adam.{key}.{name}" in found}
        return where, {name: found[f"best.{name}"] for name in self.parameters}
