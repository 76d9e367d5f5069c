"""A search as a whole: what it writes can be run, it goes on, the test split is read once, and a budget may bind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from searching import QUICK, SPACE, recipe, wanted

from trimtab.cli import main
from trimtab.load import artifact
from trimtab.load.sources import open_source
from trimtab.run.context import Context
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal, whole_lines
from trimtab.run.recipe import Recipe, Step
from trimtab.run.search import drive
from trimtab.run.search.bench import Bench
from trimtab.run.search.write import Found


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


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
