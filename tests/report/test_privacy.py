"""Nothing of a user's files is in a report that was not asked to hold it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from report.fixture import make, reading
from trimtab.report import render

RECIPE = """\
model: /home/ada/models/ward-llava
task: {type: vqa, data: 'C:\\scans\\Mueller_Anna.csv', image_root: /mnt/ward 7/scans, prompt: 'Tumour in {question}?',
  columns: {image: scan, group: patient}}
also:
- {type: vqa, data: second/cohort.parquet}
steps:
- rtn: {bits: 4}
"""
SECRETS = ("ward-llava", "/home/ada", "Mueller", "scans", "ward 7", "Tumour", "cohort", "second/")


def test_paths_names_and_prompts_are_withheld_everywhere(tmp_path: Path) -> None:
    run = make(tmp_path / "run", recipe=RECIPE)
    result = json.loads((run / "result.json").read_text())
    result["model"]["id"] = "/home/ada/models/ward-llava"
    result["notes"] = [
        "Mueller_Anna.csv, row 7: no image",
        "prompt Tumour in {question}? is long",
        "accuracy.cohort fell",
    ]
    result["machine"]["cwd"] = "/mnt/ward 7/scans"
    result["axes"][0] |= {"figure": "accuracy.Mueller_Anna", "before": 0.5}
    (run / "result.json").write_text(json.dumps(result))
    with (run / "readings.jsonl").open("a") as file:
        for name in ("accuracy.Mueller_Anna", "accuracy.cohort.missing"):
            file.write(json.dumps(reading("before", name, 0.5, "share", [0.4, 0.6], 50, "estimated")) + "\n")
    render(run)
    for name in ("report.html", "report.md"):
        text = (run / name).read_text()
        assert [secret for secret in SECRETS if secret in text] == []
        assert "withheld" in text
        assert "(local model)" in text
    render(run, with_samples=True)
    assert [secret for secret in SECRETS if secret not in (run / "report.html").read_text()] == []


def test_a_builtin_recipe_is_left_whole(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    render(run)
    text = (run / "report.md").read_text().split("```yaml\n")[1].split("\n```")[0]
    assert yaml.safe_load(text)["model"] == "builtin:easyvqa-llava"
    assert "(withheld)" not in (run / "report.html").read_text()


def test_a_hub_id_is_no_local_model(tmp_path: Path) -> None:
    run = make(tmp_path / "run", "language", recipe="model: google/gemma-3-270m\nsteps:\n- rtn: {bits: 4}\n")
    render(run)
    assert "google/gemma-3-270m" in (run / "report.html").read_text()
