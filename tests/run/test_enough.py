"""Evaluations that end early, and answers of untouched models that are not asked for twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SMALL

from trimtab.core.errors import BadInput
from trimtab.load.cache import entries
from trimtab.load.sources import open_source
from trimtab.run import figures, quality
from trimtab.run.context import Context
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal
from trimtab.run.recipe import Evaluate
from trimtab.run.start import resolve


def context(model: Path, folder: Path, *settings: str) -> Context:
    _, recipe = resolve("quickstart", [*SMALL, f"model={model}", *settings])
    made = Folder(folder)
    made.create()
    return Context(recipe, "test", made, Journal(folder), loaded=open_source(str(model)))


def silenced(at: Context) -> None:
    """Make the model unable to answer."""

    def boom(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was asked")

    at.loaded.library.generate = boom
    at.loaded.library.forward = boom


def test_a_second_run_does_not_ask_the_untouched_model_again(model_folder: Path, tmp_path: Path) -> None:
    first = context(model_folder, tmp_path / "first")
    task = first.recipe.task
    reading = quality.measure(first, "before", task)
    assert first.reused == []
    assert [entry.name.split("/")[0] for entry in entries()] == ["baseline"]
    second = context(model_folder, tmp_path / "second")
    silenced(second)
    assert quality.measure(second, "before", task) == reading
    assert second.reused == [f"before {task.name}"]
    assert quality.stored(second, "before", task) == quality.stored(first, "before", task)


@pytest.mark.parametrize(
    "changed", ["evaluate.reuse=false", "evaluate.limit=23", "seed=1", "evaluate.batch_size=7", "threads=1"]
)
def test_what_the_answers_depend_on_makes_another_entry(changed: str, model_folder: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first = context(model_folder, tmp_path / "first")
        quality.measure(first, "before", first.recipe.task)
        second = context(model_folder, tmp_path / "second", changed)
        silenced(second)
        if changed.startswith("threads"):
            torch.set_num_threads(1)
        with pytest.raises(AssertionError, match="was asked"):
            quality.measure(second, "before", second.recipe.task)
    finally:
        torch.set_num_threads(threads)


def test_other_weights_and_the_trimmed_model_are_asked(model_folder: Path, tmp_path: Path) -> None:
    first = context(model_folder, tmp_path / "first")
    quality.measure(first, "before", first.recipe.task)
    silenced(first)
    with pytest.raises(AssertionError, match="was asked"):
        quality.measure(first, "after", first.recipe.task)
    other = context(model_folder, tmp_path / "other")
    other.loaded.source = type(other.loaded.source)(**{**vars(other.loaded.source), "revision": "another"})
    silenced(other)
    with pytest.raises(AssertionError, match="was asked"):
        quality.measure(other, "before", other.recipe.task)


def test_another_chat_template_is_another_model(model_folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "model"
    shutil.copytree(model_folder, own)
    first = context(own, tmp_path / "first")
    quality.measure(first, "before", first.recipe.task)
    with (own / "chat_template.jinja").open("a") as file:
        file.write("{# another #}")
    second = context(own, tmp_path / "second")
    silenced(second)
    with pytest.raises(AssertionError, match="was asked"):
        quality.measure(second, "before", second.recipe.task)


def test_windows_end_when_their_minutes_are_over_at_two_or_more_and_both_sides_have_as_many(
    model_folder: Path, tmp_path: Path
) -> None:
    settings = (
        "task={dataset: text, split: test}",
        "calibrate={dataset: text}",
        "budget={}",
        "evaluate={reuse: false}",
    )
    at = context(model_folder, tmp_path / "run", *settings, "evaluate.max_minutes=1e-9")
    assert quality.measure(at, "before", at.recipe.task).n == 2
    slow = replace(at, recipe=at.recipe.model_copy(update={"evaluate": Evaluate(max_minutes=60, reuse=False)}))
    assert quality.measure(slow, "after", at.recipe.task).n == 2
    assert figures.compared(at, at.recipe.task)["change"] == pytest.approx(1.0)


def test_asking_ends_at_the_first_look_that_decides(model_folder: Path, tmp_path: Path) -> None:
    """A model at random weights is as wrong as itself: no flip in 16 answers refutes a drop of 30 points at 1 %."""
    at = context(model_folder, tmp_path / "run", "evaluate.limit=64", "evaluate.batch_size=2",
                 "evaluate.until=decided", "budget.accuracy.max_drop=30pt")  # fmt: skip
    task = at.recipe.task
    at.read("before", [quality.measure(at, "before", task)])
    assert len(quality.stored(at, "before", task)) == 64
    at.read("after", [quality.measure(at, "after", task)])
    assert len(quality.stored(at, "after", task)) == 16
    figures._as_many(at)
    row = figures.compared(at, task)
    assert (row["flips"]["n"], row["more_samples"]) == (16, 0)
    assert row["high"] == pytest.approx(1 - 0.01 ** (1 / 16), abs=2e-3), "the bound is that look's, at its level"
    for when in ("before", "after"):
        figure = at.figure(when, f"accuracy.{task.name}")
        assert figure is not None
        assert figure["n"] == 16
    quality.publish(at)
    assert len(at.folder.predictions.read_text().splitlines()) == 16


def test_asking_ends_when_its_minutes_are_over_and_no_baseline_is_kept(model_folder: Path, tmp_path: Path) -> None:
    at = context(model_folder, tmp_path / "run", "evaluate.batch_size=4", "evaluate.max_minutes=1e-9")
    task = at.recipe.task
    assert quality.measure(at, "before", task).n == 4
    assert entries() == []
    assert quality.measure(at, "after", task).n == 4


def test_until_decided_needs_a_budget() -> None:
    with pytest.raises(BadInput, match=r"evaluate\.until.*budget\.accuracy"):
        resolve("gemma-270m-w4", ["evaluate.until=decided"])
