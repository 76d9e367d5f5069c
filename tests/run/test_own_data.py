"""A user's own folder of pictures and CSV with a patient column: init writes a recipe, run takes it to an artifact."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from small import SMALL

from trimtab.core.errors import BadInput
from trimtab.data import easyvqa
from trimtab.run.start import resolve

PATIENTS = 12


def write(folder: Path) -> Path:
    """Two pictures a patient, two questions a picture."""
    (folder / "scans").mkdir(parents=True)
    known = sorted(easyvqa.facts("test").items())[: 2 * PATIENTS]
    rows = []
    for index, (number, seen) in enumerate(known):
        with Image.open(easyvqa.picture("test", number)) as image:
            image.convert("RGB").save(folder / "scans" / f"secret-name-{index}.png")
        for question in ("what color is the shape?", "what shape is in the image?"):
            answer = easyvqa.answer(question, seen)
            rows.append([f"scans/secret-name-{index}.png", question, answer, f"patient-{index // 2}"])
    with (folder / "scans.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "question", "label", "patient"])
        writer.writerows(rows)
    return folder / "scans.csv"


def trimtab(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trimtab.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_init_then_run(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path)
    done = trimtab("init", "--model", str(model_folder), "--data", str(data), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "patient" in done.stderr
    assert "one side" in done.stderr, "the reason for the group is said"
    plain = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert plain["task"]["columns"] == {
        "image": "file", "question": "question", "answer": "label", "group": "patient"
    }  # fmt: skip
    again = trimtab("init", "--data", str(data), cwd=tmp_path)
    assert again.returncode == 2, "a recipe that is there is not overwritten"

    settings = [one for one in SMALL if not one.startswith(("also", "calibrate"))]
    sets = [part for one in (*settings, "calibrate.num_samples=200") for part in ("--set", one)]
    done = trimtab("run", "recipe.yaml", "--out", "run", "--json", *sets, cwd=tmp_path)
    result = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == result["exit_status"], done.stderr
    assert result["artifact"]["gate"]["passed"]
    assert result["artifact"]["gate"]["samples"] == 16
    fewer(result, (tmp_path / "run" / "report.md").read_text())
    private(tmp_path / "run", data, str(model_folder.parent))


def fewer(result: dict, report: str) -> None:
    """Calibration found fewer samples than it was told to take: said in the journal, in the notes and in the report."""
    found = result["audit"]["found"]
    assert 0 < found < 48
    assert result["audit"]["asked"] == 200
    wanted = f"calibrate.num_samples asked for 200 samples; the data have {found}, and all were used."
    assert wanted in result["notes"]
    report = report.replace("\\_", "_")  # as Markdown writes it
    assert wanted in report
    assert f"{found} samples, all that there are of the 200 that were asked for." in report
    assert "H was damped by 0.01 of its mean diagonal on" in report
    assert {row["damp"] for row in result["layers"] if any(row["seen"].values())} == {0.01}


def private(run: Path, data: Path, *more: str) -> None:
    """No file name, question or answer of the user's in anything that may be handed on, nor ``more``."""
    names = ("report.html", "report.md", "report.json", "result.json", "readings.jsonl", "journal.jsonl", "run.log")
    public = [run / name for name in names] + [path for path in (run / "artifact").rglob("*") if path.is_file()]
    for path in public:
        content = path.read_bytes()
        for word in (
            b"secret-name",
            b"what color is the shape?",
            data.name.encode(),
            b"patient-1",
            *(one.encode() for one in more),
        ):
            assert word not in content, f"{word!r} stands in {path.name}"


def test_no_patient_is_on_both_sides(tmp_path: Path, model_folder: Path) -> None:
    from trimtab.data.tasks import samples
    from trimtab.run.init import write as init

    path, _ = init(str(model_folder), write(tmp_path), tmp_path / "recipe.yaml")
    _, recipe = resolve(path)
    sides = [{one.group for one in samples(recipe.task, part)} for part in ("train", "test")]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_a_test_set_smaller_than_a_batch_is_gone_through_again(tmp_path: Path, model_folder: Path) -> None:
    from trimtab.data.tasks import samples
    from trimtab.load.sources import open_source
    from trimtab.run import calibration, timing
    from trimtab.run.context import Context
    from trimtab.run.folder import Folder
    from trimtab.run.init import write as init
    from trimtab.run.journal import Journal

    path, _ = init(str(model_folder), write(tmp_path), tmp_path / "recipe.yaml")
    _, recipe = resolve(path)
    context = Context(recipe, "r", Folder(tmp_path), Journal(tmp_path), loaded=open_source(str(model_folder)))
    count = len(samples(recipe.task, "test"))
    assert calibration.task_batch(context, recipe.task, 4, "test", first=count) == {}
    assert len(calibration.task_batch(context, recipe.task, 4, "test", first=count - 1)["input_ids"]) == 1
    batch = timing.prompts(context, count + 3)
    assert {len(value) for value in batch.values()} == {count + 3}
    assert bool((batch["input_ids"][:3] == batch["input_ids"][count:]).all())


def test_init_looks_at_the_model_and_at_texts(tmp_path: Path) -> None:
    from trimtab.anatomy import of, tiny
    from trimtab.load.blank import blank
    from trimtab.run.init import guessed, steps

    made = steps(of(tiny.make("llava")[0]))
    assert [next(iter(one)) for one in made] == ["gptq", "gptq", "divprune"]
    assert [one["gptq"]["targets"] for one in made[:2]] == [["embedding", "head"], ["vision", "projector", "language"]]
    assert [one["gptq"]["group_size"] for one in made[:2]] == [-1, -1], "its rows of 24 have no usual group"
    assert [one["gptq"]["group_size"] for one in steps(blank("builtin:easyvqa-llava"))[:2]] == [16, 64]
    tables, layers = steps(of(tiny.make("llama")[0]))
    assert [tables["gptq"]["targets"], layers["gptq"]["targets"]] == [["embedding", "head"], ["language"]]
    with pytest.raises(BadInput, match="'bert' does not generate"):
        steps(of(tiny.make("bert")[0]))
    (tmp_path / "prose.txt").write_text("one two three\n" * 99)
    task, _ = guessed(tmp_path / "prose.txt")
    assert (task.type, task.data) == ("text", str(tmp_path / "prose.txt"))


def test_eval_reads_the_columns_of_ones_own_table(tmp_path: Path, model_folder: Path) -> None:
    from trimtab.run.verbs import quality

    reading = quality(str(model_folder), None, write(tmp_path), 4, lambda *_: None)
    assert (reading.name, reading.n) == ("accuracy.task", 4)
