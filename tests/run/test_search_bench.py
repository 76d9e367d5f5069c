"""On the bench nothing is lost; folds share no picture; a point is asked no more than it needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from searching import recipe

from trimtab.core.errors import Anomaly, BadInput
from trimtab.data.tasks import samples
from trimtab.evaluate.prediction import Prediction
from trimtab.load.sources import open_source
from trimtab.run import calibration
from trimtab.run.context import Context
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal
from trimtab.run.recipe import Step
from trimtab.run.search import folds
from trimtab.run.search.asking import Asking
from trimtab.run.search.bench import Bench, in_turn, sides_of
from trimtab.run.search.goals import goals
from trimtab.run.search.point import Bounds, Outcome, Point, objectives
from trimtab.run.search.trying import Trying

# the bench


@pytest.fixture(name="bench")
def _bench(model_folder: Path, tmp_path: Path) -> Bench:
    made = Bench(
        Context(recipe(model_folder), "test", Folder(tmp_path), Journal(tmp_path), loaded=open_source(model_folder))
    )
    assert made.original
    return made


def steps(*given: object) -> tuple[Step, ...]:
    return tuple(Step.model_validate(one) for one in given)


GPTQ = {"gptq": {"bits": 4, "group_size": 64, "targets": ["language", "embedding"]}}
EORA = {"eora": {"r": 2, "targets": ["language"]}}
LORA = {"lora": {"r": 2, "epochs": 1, "num_samples": 8, "batch_size": 8, "validation": 0.0}}
FEWER = {"divprune": {"keep": 0.25}}


def logits(bench: Bench) -> torch.Tensor:
    batch = calibration.sample_batch(bench.context, 2)
    with torch.no_grad():
        return bench.context.loaded.model(**batch).logits


def test_one_copy_is_trimmed_again_and_again_and_is_always_what_it_was(bench: Bench) -> None:
    before = logits(bench)
    first = logits_of(bench, GPTQ, EORA, FEWER, LORA)
    assert not torch.equal(first, before)
    assert torch.equal(
        logits_of(bench, {"wanda": {"targets": ["vision"]}}), logits_of(bench, {"wanda": {"targets": ["vision"]}})
    )
    bench.known.items()
    assert torch.equal(first, logits_of(bench, GPTQ, EORA, FEWER, LORA)), "what is remembered is what was made"
    assert bench.known.hits > 0
    bench.trim(())
    bench.context.loaded.unlower()
    assert torch.equal(logits(bench), before)


def logits_of(bench: Bench, *given: object) -> torch.Tensor:
    bench.trim(steps(*given))
    bench.context.loaded.unlower()
    batch = calibration.sample_batch(bench.context, 2)
    with torch.no_grad():
        return bench.context.loaded.model(**batch).logits.nan_to_num()


def test_what_is_remembered_was_fitted_from_the_model_as_it_came(bench: Bench, model_folder: Path) -> None:
    """Another bench, which remembers nothing, makes the same bits."""
    bench.trim(steps(GPTQ))
    shared = logits_of(bench, GPTQ, EORA)
    other = Bench(replace(bench.context, loaded=open_source(model_folder)))
    assert other.original
    assert torch.equal(shared, logits_of(other, GPTQ, EORA))
    assert (bench.known.hits, other.known.hits) == (1, 0)


def test_a_second_model_is_trimmed_beside_the_copy(bench: Bench, model_folder: Path) -> None:
    first = bench.trim(steps(GPTQ))
    second = bench.trim(steps(FEWER), open_source(model_folder))
    assert second is not first
    assert len(second.policies) == 1
    assert len(first.policies) == 0
    batch = calibration.sample_batch(bench.context, 2)
    times = in_turn(sides_of({"first": first, "second": second}, batch), 3, decoding=True)
    assert {name: {part: len(taken) for part, taken in one.items()} for name, one in times.items()} == {
        "first": {"prefill": 3, "decode": 3}, "second": {"prefill": 3, "decode": 3}
    }  # fmt: skip
    assert all(seconds > 0 for one in times.values() for taken in one.values() for seconds in taken)


def test_what_is_refused_says_why_and_changes_nothing(bench: Bench) -> None:
    why = bench.refuses(steps({"gptq": {"bits": 4, "group_size": 7}}))
    assert why is not None
    assert "group_size" in why
    assert bench.refuses(steps(GPTQ, {"wanda": {"targets": ["language"]}})) is not None
    assert bench.refuses(steps(GPTQ, EORA, FEWER)) is None
    assert bench.refuses(()) is None


# the folds


def test_folds_share_no_picture_with_one_another_nor_with_calibration(model_folder: Path) -> None:
    given = recipe(model_folder, "calibrate.num_samples=300")
    found = folds.folds(given, 256, seed=3)
    assert [len(one) for one in found] == [64, 64, 64, 64]
    groups = [{folds.group(one) for one in fold} for fold in found]
    assert all(not a & b for i, a in enumerate(groups) for b in groups[:i])
    fitted = [*samples(given.task, "train", 300, 0), *samples(given.task, "train", folds.LESSONS, 0)]
    assert not set.union(*groups) & {folds.group(one) for one in fitted}
    assert {one.id.split("/")[1] for fold in found for one in fold} == {"train"}
    each = Counter(folds.group(one) for one in folds.flat(found))
    assert max(each.values()) == folds.EACH, "a picture is looked at once for several questions"
    assert sum(count == folds.EACH for count in each.values()) > 50
    assert [one.id for one in folds.flat(folds.folds(given, 256, seed=3))] == [one.id for one in folds.flat(found)]
    assert [one.id for one in folds.flat(folds.folds(given, 256, seed=4))] != [one.id for one in folds.flat(found)]


def test_too_few_groups_for_folds_are_refused_with_numbers(model_folder: Path) -> None:
    with pytest.raises(BadInput, match=r"calibrate\.num_samples: got 38000, after which train has \d+ groups"):
        folds.folds(recipe(model_folder, "calibrate.num_samples=38000"), 64)


def test_no_test_question_is_read_twice(model_folder: Path) -> None:
    given = recipe(model_folder, "evaluate.limit=4000")
    readings = [{one.id for one in folds.unread(given, number)} for number in range(4)]
    assert [len(one) for one in readings] == [4000, 4000, 1673, 0]
    assert len(set.union(*readings)) == 9673
    assert readings[0] == {one.id for one in samples(given.task, "test", 4000, given.seed)}, "what a run asks"


# a point


class Told:
    """Answers without a model, all right but for ``wrong``, and figures that are set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, folder: Path) -> None:
        self.wrong, self.size, self.seconds = 0, 100.0, 0.05
        asked = [replace(one, open=None) for one in folds.flat(folds.folds(bench.context.recipe, 64))]
        self.asking = Asking(bench.context.recipe, asked, folder / "answers")
        monkeypatch.setattr(Bench, "trim", lambda bench, given, loaded=None: bench.context.loaded)
        monkeypatch.setattr("trimtab.run.search.asking.predict", self.predict)
        monkeypatch.setattr(Trying, "_costs", self.costs)

    def predict(self, model, processor, samples, **more):
        done = 64 - len(samples)
        yield from (Prediction(one.id, "x", done + i >= self.wrong, float(done + i >= self.wrong))
                    for i, one in enumerate(samples))  # fmt: skip

    def costs(self, trying, loaded=None):
        return {"bytes.weights": Bounds.counted(self.size), "latency.prefill.b2": Bounds(*3 * (self.seconds,))}


@pytest.fixture(name="told")
def _told(monkeypatch: pytest.MonkeyPatch, bench: Bench, tmp_path: Path) -> Told:
    found = Told(monkeypatch, bench, tmp_path)
    monkeypatch.setattr(Trying, "_costs", lambda self, loaded: found.costs(self))
    return found


def trying(bench: Bench, told: Told, drop: str = "10pt", weights: str = "2x") -> Trying:
    base = {"bytes.weights": 8_000_000.0, "latency.prefill.b2": 0.1, "accuracy.easyvqa": 1.0}
    bench.context.recipe = recipe(
        bench.context.recipe.model, f"budget={{accuracy: {{max_drop: {drop}}}, weights: {{max: {weights}}}}}"
    )
    before = told.asking.all("before", bench.context.loaded)
    return Trying(bench, told.asking, goals(bench.context.recipe, base), objectives(2, "easyvqa"), base, before, {})


def test_a_point_that_breaks_the_budget_is_asked_no_further_unless_it_is_a_reference(bench: Bench, told: Told) -> None:
    work = trying(bench, told)
    told.wrong = 16
    found = work(steps(FEWER), [])
    assert (found.state, found.asked) == ("stopped", 16)
    assert "breaks the budget" in found.why
    assert found.values["accuracy.easyvqa"].value == 0
    whole = work(steps({"divprune": {"keep": 0.5}}), [], whole=True)
    assert (whole.state, whole.asked) == ("complete", 64)
    assert whole.values["accuracy.easyvqa"].value == pytest.approx(0.75)
    assert whole.lost is not None
    assert whole.lost.low < 0.25 < whole.lost.high


def test_a_point_that_is_beaten_is_asked_no_further(bench: Bench, told: Told) -> None:
    work = trying(bench, told)
    good = Point(3, {}, steps(FEWER), work(steps(FEWER), []))
    assert good.outcome.state == "complete"
    told.size, told.seconds = 101.0, 0.06
    found = work(steps({"divprune": {"keep": 0.5}}), [good])
    assert (found.state, found.asked) == ("stopped", 16)
    assert found.why.startswith("beaten by 3")
    told.seconds = 0.04
    assert work(steps({"divprune": {"keep": 0.7}}), [good]).state == "complete", "it is faster"


def test_what_is_foreseen_to_break_the_budget_is_not_trimmed_once_a_nearer_point_is_known(
    bench: Bench, told: Told
) -> None:
    work = trying(bench, told, weights="0.5x")
    near = Point(1, {}, steps(FEWER), work(steps(FEWER), []))
    found = work(steps({"divprune": {"keep": 0.5}}), [near])
    assert (found.state, found.asked) == ("stopped", 0)
    assert found.why.startswith("foreseen at")
    assert set(found.values) == {"bytes.weights"}
    assert work(steps({"divprune": {"keep": 0.5}}), []).state == "complete", "nothing nearer is known"


def test_a_step_that_fails_is_a_failed_point_that_says_why(
    bench: Bench, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(bench, given, loaded=None):
        raise Anomaly("no number")

    work = trying(bench, told)
    monkeypatch.setattr(Bench, "trim", broken)
    assert work(steps(FEWER), []) == replace(Outcome("failed", "no number"), seconds=pytest.approx(0, abs=60))
    found = work(steps({"gptq": {"bits": 4, "group_size": 7}}), [])
    assert found.state == "failed"
    assert "group_size" in found.why
