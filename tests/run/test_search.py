"""A search as a whole: on the bench nothing is lost, what it writes can be run, it goes on, and a budget may bind."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trimtab.cli import main
from trimtab.core.errors import BadInput
from trimtab.data.tasks import samples
from trimtab.load import artifact
from trimtab.load.sources import open_source
from trimtab.run import calibration
from trimtab.run.context import Context
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal, whole_lines
from trimtab.run.recipe import Recipe, Step
from trimtab.run.search import drive, folds
from trimtab.run.search.asking import Asking
from trimtab.run.search.bench import Bench, in_turn, sides_of
from trimtab.run.search.place import Wanted
from trimtab.run.search.point import Bounds, Outcome
from trimtab.run.search.trying import Trying
from trimtab.run.search.write import Found
from trimtab.run.start import resolve

QUICK = [
    "evaluate.limit=32", "evaluate.batch_size=8", "evaluate.max_new_tokens=3", "calibrate.num_samples=8", "also=[]",
    "measure.repeats=3", "measure.batch_size=2", "threads=1",
    "budget={accuracy: {max_drop: 90pt}, weights: {max: 0.9x}}",
]  # fmt: skip
SPACE = {"bits.language": [4, 8, 16], "bits.vision": [16], "bits.projector": [16], "bits.tables": [16], "rank": [0, 2],
         "sparsity.language": ["none", "2:4"], "sparsity.vision": ["none"], "adapter.r": [0], "method": ["gptq"],
         "tokens.keep": [0.25, 1.0], "tokens.method": ["divprune"]}  # fmt: skip


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def recipe(model: Path | str, *more: str) -> Recipe:
    return resolve("quickstart", [*QUICK, f"model={model}", *more])[1]


def wanted(model: Path | str, *more: str, **other: object) -> Wanted:
    return Wanted(**{"name": "quickstart", "questions": 64, "space": SPACE, "recipe": recipe(model, *more)} | other)


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
    assert all(16 <= len(group) <= 18 for group in groups), "four questions of a picture, where it has as many"
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
        from trimtab.evaluate.prediction import Prediction

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
    from trimtab.run.search.goals import goals
    from trimtab.run.search.point import objectives

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
    from trimtab.run.search.point import Point

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
    from trimtab.run.search.point import Point

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
    from trimtab.core.errors import Anomaly

    def broken(bench, given, loaded=None):
        raise Anomaly("no number")

    work = trying(bench, told)
    monkeypatch.setattr(Bench, "trim", broken)
    assert work(steps(FEWER), []) == replace(Outcome("failed", "no number"), seconds=pytest.approx(0, abs=60))
    found = work(steps({"gptq": {"bits": 4, "group_size": 7}}), [])
    assert found.state == "failed"
    assert "group_size" in found.why


# a whole search


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    """The built-in model, three references and the likely points of a small space."""
    patch, threads = pytest.MonkeyPatch(), torch.get_num_threads()
    patch.setenv("TRIMTAB_CACHE", str(tmp_path_factory.mktemp("cache")))
    root = tmp_path_factory.mktemp("searches") / "small"
    try:
        patch.setattr(drive, "reserve", lambda points, pace, repeats: 1e9 if len(points) >= 6 else 0.0)
        yield root, drive.search(wanted("builtin:easyvqa-llava"), root, 60)
    finally:
        torch.set_num_threads(threads)
        patch.undo()


def document(root: Path) -> dict:
    return json.loads((root / "search.json").read_text(encoding="utf-8"))


def test_a_small_search_on_the_built_in_model(ended: tuple[Path, Found]) -> None:
    root, found = ended
    said = document(root)
    assert (said["format"], said["name"], said["model"]) == (1, "quickstart", "builtin:easyvqa-llava")
    assert [one["name"] for one in said["objectives"]] == ["bytes.weights", "latency.prefill.b2", "accuracy.easyvqa"]
    numbers = [one["number"] for one in said["points"]]
    assert len(numbers) == 6
    assert numbers == sorted(set(numbers)), "a number that is not there was of something tried before"
    references = [one["reference"] for one in said["points"] if one["reference"]]
    assert references == ["quickstart", "4-bit alone", "keep 0.25 alone"]
    complete = [one for one in said["points"] if one["state"] == "complete"]
    assert {one["number"] for one in complete} >= {0, 1, 2}, "references are asked every question"
    for one in complete:
        assert set(one["values"]) == {objective["name"] for objective in said["objectives"]}
        assert all(row["low"] <= row["value"] <= row["high"] for row in one["values"].values())
        assert one["asked"] == 64
    assert complete[0]["values"]["accuracy.easyvqa"]["value"] > 0.9
    assert said["binding"] is None
    assert said["hypervolume"] > 0
    assert found.seconds == pytest.approx(said["seconds"], abs=0.1)


def test_every_point_of_the_front_is_a_recipe(ended: tuple[Path, Found]) -> None:
    root, _ = ended
    said = document(root)
    front = [one for one in said["points"] if one["pareto"]]
    assert front
    assert {one["recipe"] for one in front} == {f"recipes/{path.name}" for path in (root / "recipes").iterdir()}
    for one in front:
        made = Recipe.read((root / one["recipe"]).read_text(encoding="utf-8"))
        assert made.steps == tuple(map(Step.model_validate, one["steps"]))
        assert made.model_copy(update={"steps": ()}) == recipe("builtin:easyvqa-llava").model_copy(update={"steps": ()})
    assert all(one["recipe"] is None for one in said["points"] if not one["pareto"])


def test_the_bytes_of_a_point_are_those_of_its_artifact(ended: tuple[Path, Found], tmp_path: Path) -> None:
    _, found = ended
    point = found.points[1]
    bench = Bench(
        Context(found.recipe, "test", Folder(tmp_path), Journal(tmp_path), loaded=open_source(found.recipe.model))
    )
    assert bench.original
    about = {"recipe": {}, "calibration": {}, "invariants": (), "modified": (), "notes": (), "timings": {}}
    info = artifact.write(tmp_path / "artifact", bench.trim(point.steps), about)
    assert point.outcome.values["bytes.weights"].value == info.bytes


def test_the_test_split_is_read_once_for_a_handful(ended: tuple[Path, Found]) -> None:
    root, _ = ended
    said = document(root)
    assert said["readings"] == 1
    numbers = [one["number"] for one in said["test"]]
    assert numbers[:3] == [0, 1, 2]
    assert 3 < len(numbers) <= 3 + 4
    for one in said["test"]:
        assert one["asked"] == 32
        assert set(one["against"]) == (set() if one["reference"] else {"quickstart", "4-bit alone", "keep 0.25 alone"})
    asked = ids(root / "state" / "test-0")
    assert {one.split("/")[1] for one in asked} == {"test"}
    assert len(asked) == 32
    folded = ids(root / "state" / "answers")
    assert {one.split("/")[1] for one in folded} == {"train"}
    assert (root / "state").stat().st_mode & 0o777 == 0o700


def test_no_answer_and_no_question_is_in_what_it_leaves(ended: tuple[Path, Found]) -> None:
    root, _ = ended
    for path in (root / "search.json", root / "run.log"):
        text = path.read_text(encoding="utf-8")
        assert "what" not in text
        assert "easyvqa/t" not in text


def test_one_that_has_ended_is_given_back_and_goes_on_with_more_minutes(
    ended: tuple[Path, Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, found = ended
    monkeypatch.setattr(drive, "reserve", lambda points, pace, repeats: 1e9)
    again = drive.search(None, root, 60)
    assert again.points == found.points
    assert [one.outcome for one in again.tested] == [one.outcome for one in found.tested]
    assert again.readings == 1
    monkeypatch.setattr(drive, "reserve", lambda points, pace, repeats: 1e9 if len(points) >= 7 else 0.0)
    more = drive.search(None, root, 60)
    assert more.points[:6] == found.points
    assert len(more.points) == 7
    assert more.readings == 2
    assert not ids(root / "state" / "test-0") & ids(root / "state" / "test-1")


def ids(folder: Path) -> set[str]:
    """The questions to which there are answers in a folder."""
    return {row["id"] for path in folder.iterdir() for row in whole_lines(path)}


def test_a_budget_that_nothing_meets_names_the_goal_and_the_nearest_point(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drive, "reserve", lambda points, pace, repeats: 1e9)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text(json.dumps(SPACE), encoding="utf-8")
    settings = [*QUICK, f"model={model_folder}", "budget={weights: {max: 0.05x}}"]
    flags = [part for one in settings for part in ("--set", one)]
    monkeypatch.setattr("trimtab.run.search.folds.QUESTIONS", 64)
    flags += ["--out", "out", "--space", "space.yaml", "--json"]
    monkeypatch.setattr(sys, "argv", ["trimtab", "search", "quickstart", *flags])
    with pytest.raises(SystemExit) as status:
        main()
    assert status.value.code == 5
    captured = capsys.readouterr()
    assert "no point meets the budget. weights.max 0.05x: the nearest point, " in captured.err
    said = json.loads(captured.out.splitlines()[-1])
    assert said["test"] == []
    assert said["binding"].startswith("weights.max 0.05x")
    nearest = min((one for one in said["points"] if one["state"] == "complete"),
                  key=lambda one: one["values"]["bytes.weights"]["value"])  # fmt: skip
    assert f"the nearest point, {nearest['number']}," in said["binding"]
    assert any(one["pareto"] for one in said["points"])


# the command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "got neither a recipe nor --out"),
        (["--out", "nothing"], "holds no search"),
        (["quickstar"], "nearest: 'quickstart'"),
        (["--out", "x", "--set", "seed=1"], "belong to a search that begins"),
        (["gemma-270m-w4", "--out", "x"], "counts right answers"),
        (["quickstart", "--minutes", "0"], "--minutes"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["trimtab", "search", *arguments])
    with pytest.raises(SystemExit) as status:
        main()
    assert status.value.code == 2
    assert said in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trimtab.cli.search.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["trimtab", "search", "quickstart"])
    with pytest.raises(SystemExit) as status:
        main()
    assert status.value.code == 2
    assert "pip install 'trimtab[search]'" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "search", stopped)
    monkeypatch.setattr(
        sys, "argv", ["trimtab", "search", "quickstart", "--out", str(tmp_path / "out"), "--minutes", "3"]
    )
    with pytest.raises(SystemExit) as status:
        main()
    assert status.value.code == 130
    assert f"Go on with: trimtab search --out {tmp_path / 'out'} --minutes 3" in capsys.readouterr().err
