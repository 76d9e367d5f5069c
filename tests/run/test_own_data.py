"""A user's own folder of pictures and CSV with a patient column: init writes a recipe, run takes it to an artifact."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import yaml
from PIL import Image
from small import SMALL

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
    sets = [part for one in settings for part in ("--set", one)]
    done = trimtab("run", "recipe.yaml", "--out", "run", "--json", *sets, cwd=tmp_path)
    assert done.returncode in (0, 3, 4), done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["artifact"]["gate"]["passed"]
    private(tmp_path / "run", data)


def private(run: Path, data: Path) -> None:
    """No file name, question or answer of the user's in anything that may be handed on."""
    names = ("report.html", "report.md", "result.json", "readings.jsonl", "journal.jsonl", "run.log")
    public = [run / name for name in names] + [path for path in (run / "artifact").rglob("*") if path.is_file()]
    for path in public:
        content = path.read_bytes()
        for word in (b"secret-name", b"what color is the shape?", data.name.encode(), b"patient-1"):
            assert word not in content, f"{word!r} stands in {path.name}"


def test_no_patient_is_on_both_sides(tmp_path: Path, model_folder: Path) -> None:
    from trimtab.data.tasks import samples
    from trimtab.run.init import write as init

    path, _ = init(str(model_folder), write(tmp_path), tmp_path / "recipe.yaml")
    _, recipe = resolve(path)
    sides = [{one.group for one in samples(recipe.task, part)} for part in ("train", "test")]
    assert all(sides)
    assert not sides[0] & sides[1]
