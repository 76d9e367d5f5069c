"""The training loop: resumed it is the same bit for bit, it ends early, it never hands on what is worse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.core.errors import Anomaly
from trimtab.run.tune import Schedule, Tuning


class Stop(Exception):
    pass


def tuning(state: Path, *, stop: int | None = None, drop: bool = True, rate: float = 0.05, epochs: int = 4,
           patience: int = 9, held: int = 8, noise: float = 0.0) -> Tuning[int]:  # fmt: skip
    """A linear map learnt from 40 rows; ``stop``: killed before that step."""
    generator = torch.Generator().manual_seed(0)
    x, teacher = torch.randn(40, 6, generator=generator), torch.randn(3, 6, generator=generator)
    y = x @ teacher.T + noise * torch.randn(40, 3, generator=generator)
    w = nn.Parameter(torch.zeros(3, 6))
    calls = [0]

    def loss(chosen: Sequence[int]) -> tuple[Tensor, int]:
        if torch.is_grad_enabled():
            calls[0] += 1
            if calls[0] == stop:
                raise Stop
        rows = x[list(chosen)]
        given = F.dropout(rows, 0.2) if drop and torch.is_grad_enabled() else rows
        return (given @ w.T - y[list(chosen)]).square().sum(), 3 * len(chosen)

    schedule = Schedule(epochs, 5, rate, patience, seed=1)
    return Tuning({"w": w}, list(range(40 - held)), list(range(40 - held, 40)), loss, schedule, state)


@pytest.mark.parametrize("stop", [1, 2, 5, 9, 20])
def test_killed_and_resumed_it_is_the_same_bit_for_bit(stop: int, tmp_path: Path) -> None:
    whole = tuning(tmp_path / "whole")
    ended = whole.run()
    with pytest.raises(Stop):
        tuning(tmp_path / "killed", stop=stop).run()
    again = tuning(tmp_path / "killed")
    assert again.run().log == ended.log
    assert torch.equal(again.parameters["w"], whole.parameters["w"])


def test_it_learns_and_counts_its_steps(tmp_path: Path) -> None:
    one = tuning(tmp_path / "state", drop=False, epochs=30)
    shown: list[tuple[int, int]] = []
    one.progress = lambda done, total: shown.append((done, total))
    ended = one.run()
    assert ended.step == one.total == 30 * 7
    assert shown[-1] == (one.total, one.total)
    assert ended.best < 0.01 * ended.log[0]["validation_loss"]


def test_it_ends_when_validation_no_longer_falls_and_keeps_the_best(tmp_path: Path) -> None:
    one = tuning(tmp_path / "state", rate=2.0, epochs=50, patience=2, noise=1.0)
    ended = one.run()
    assert ended.step < one.total
    losses = [row["validation_loss"] for row in ended.log]
    assert ended.best == min(losses) < losses[-1]
    with torch.no_grad():
        total, count = one.loss(one.held)
    assert float(total) / count == pytest.approx(ended.best)


def test_what_only_gets_worse_is_left_as_it_was(tmp_path: Path) -> None:
    one = tuning(tmp_path / "state", rate=1e3, epochs=2)
    one.run()
    assert not one.parameters["w"].any()


def test_without_validation_the_last_is_kept(tmp_path: Path) -> None:
    one = tuning(tmp_path / "state", held=0, drop=False)
    ended = one.run()
    assert ended.step == one.total
    assert one.parameters["w"].any()


def test_a_loss_that_is_no_number_ends_it_by_name(tmp_path: Path) -> None:
    one = tuning(tmp_path / "state")
    plain = one.loss
    one.loss = lambda chosen: (plain(chosen)[0] * torch.nan, 1)
    with pytest.raises(Anomaly, match=r"the loss is nan at step 1 of 28 \(learning_rate 0\.05\)"):
        one.run()
