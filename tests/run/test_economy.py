"""What is timed for joules and the idealized runtime, how long it may take, and what comes of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trimtab.measure.energy import Energy
from trimtab.measure.idealized import Timing, fit
from trimtab.measure.vlm import Parts
from trimtab.run import economy, queries
from trimtab.run.queries import OUTPUTS, TIMES, TOKENS, Cost


def test_a_whole_answer_looks_reads_and_says() -> None:
    said: list[str] = []
    found = Parts(lambda: said.append("see"), lambda: said.append("read"), lambda: said.append("word"), lambda: 0, 1)
    queries.whole(found)()
    assert said == ["see", "read", *["word"] * TOKENS]
    said.clear()
    queries.whole(Parts(None, found.prefill, found.decode, found.cache, 1), 0)()
    assert said == ["read"]


def test_a_prompt_is_lengthened_by_its_last_word_and_pictures_stay() -> None:
    batch = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long),
             "pixel_values": torch.rand(1, 3, 4, 4)}  # fmt: skip
    found = queries.lengthened(batch, 5)
    assert found["input_ids"].tolist() == [[5, 6, 7, 7, 7]]
    assert found["attention_mask"].tolist() == [[1] * 5]
    assert found["pixel_values"] is batch["pixel_values"]
    assert batch["input_ids"].shape == (1, 3)


def test_longer_prompts_are_timed_while_there_is_time_and_room() -> None:
    quick = [Cost(0.001, 0.01, 0.001)] * 2
    assert queries.lengths(100, 4096, quick) == [100, 200, 400]
    assert queries.lengths(100, 200 + max(OUTPUTS), quick) == [100, 200]
    assert queries.lengths(100, 199 + max(OUTPUTS), quick) == [100]
    slow = [Cost(0.0, 1.0, 0.2)]
    assert queries.lengths(100, 4096, slow) == []
    one = Cost(0.5, 2.0, 0.25)
    assert one.query(2, 5) == 0.5 + 4.0 + 1.0
    assert queries.spent([one], 2) == (TIMES + 1) * sum(one.query(2, n) for n in OUTPUTS)


def test_what_it_takes_is_foreseen() -> None:
    """Two sides of 1 s a picture, 2 s a prompt, 0.5 s a word: no longer prompt is timed, and of energy two stretches
    are begun before the time is over; each call is made once off and once on the meter."""
    side = Cost(1.0, 2.0, 0.5)
    answer = 1.0 + 2.0 + TOKENS * 0.5
    each = 2 * 2 * (1.0 + 2.0 + answer)
    assert economy.foreseen([side, side], 100, 4096, 25) == pytest.approx(each * max(1.0, economy.ALLOWED / each + 1))
    quick = Cost(0.0, 1e-3, 1e-4)
    calls = (1e-3, 1e-3 + TOKENS * 1e-4)
    one = 2 * sum(economy.SECONDS + call for call in calls)
    timed = sum(queries.spent([quick, quick], times) for times in (1, 2, 4))
    assert economy.foreseen([quick, quick], 64, 4096, 25) == pytest.approx(economy.STRETCHES * one + timed)
    assert economy.foreseen([quick, quick], 64, 4096, 3) == pytest.approx(3 * one + timed)


class _Loaded:
    """What counts operations: here none are done."""

    def reference(self) -> AbstractContextManager[None]:
        return nullcontext()


def test_the_six_figures_are_those_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the machine's memory, 2 s and 10 J an answer of 8 words; a quarter of the bytes, nine tenths right."""
    monkeypatch.setattr(economy, "facts", lambda: SimpleNamespace(memory=1000))
    rows = {
        "before": {"memory.peak": 500.0, "bytes.weights16": 80.0, "bytes.weights": 320.0, "parameters": 40.0},
        "after": {"memory.peak": 250.0, "bytes.weights16": 80.0, "bytes.weights": 20.0, "parameters": 40.0},
    }
    quality = {"accuracy.easyvqa": {"main": True, "unit": "share", "before": 0.8, "after": 0.72}}
    context: Any = SimpleNamespace(
        figure=lambda when, name: {"value": rows[when][name]},
        journal=SimpleNamespace(ended={"after": {"result": {"quality": quality}}}),
    )
    found = Parts(None, lambda: torch.ones(1), lambda: torch.ones(1), lambda: 1, 1)
    answers = {when: Energy(10.0, 2.0, "modelled", "estimated") for when in rows}
    table = economy._six(context, dict.fromkeys(rows, _Loaded()), dict.fromkeys(rows, found), answers)
    assert table is not None
    six = {row["name"]: row["figures"] for row in table}
    assert six["before"]["efficiency.memory"] == 0.5
    assert six["after"]["efficiency.memory"] == 0.25
    assert six["after"]["efficiency.latency"] == 2.0
    assert six["after"]["efficiency.throughput"] == 4.0
    assert six["after"]["efficiency.throughput_per_parameter"] == 0.1
    assert six["after"]["efficiency.energy"] == 10.0
    assert six["before"]["efficiency.compression"] == 1.0
    assert six["after"]["efficiency.compression"] == pytest.approx(4 * 0.9)
    assert [row["pareto"] for row in table] == [False, True]
    quality["accuracy.easyvqa"]["after"] = 0.0
    assert economy._six(context, dict.fromkeys(rows, _Loaded()), dict.fromkeys(rows, found), answers) is None
    quality["accuracy.easyvqa"] |= {"unit": "x", "before": 20.0, "after": 25.0}
    assert economy._scores(context) == {"before": 1 / 20, "after": 1 / 25}


def test_queries_are_told_for_both_sides_and_ranked() -> None:
    def timings(word: float) -> list[Timing]:
        return [Timing(100, said, 0.1 + word * (said - 1)) for said in (1, 9)]

    told = queries._told({"before": fit(timings(0.02)), "after": fit(timings(0.01))}, 100, {"before": 30, "after": 20})
    assert [row["model"] for row in told["rows"]] == ["after", "before"]
    assert told["queries"] == [[100, 8], [100, 32], [100, 128]]
    mean = 0.1 + 0.01 * (7 + 31 + 127) / 3
    assert told["rows"][0]["seconds"] == pytest.approx(mean)
    assert told["rows"][0]["joules"] == pytest.approx(20 * mean)
    assert told["fits"]["after"]["per_token"] == pytest.approx(0.01)
