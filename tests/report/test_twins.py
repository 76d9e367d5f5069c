"""The JSON twin and the artifact's model card: what they hold, and what they must not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from report.fixture import VARIANTS, make, predictions, reading
from trimtab.load.hashing import content_hash
from trimtab.load.manifest import Base, Manifest, read_manifest
from trimtab.report import render
from trimtab.report.plain import plain

KEYS = {
    "format", "kind", "figures", "name", "model", "verdict", "stamped", "notes", "before_after", "flips", "cost",
    "time", "robust_words", "robust", "audit_words", "audit", "weighing", "arms", "layers", "worst", "check", "steps",
    "controls", "predicted", "scored", "roofline", "spent", "bounds", "recipe", "python", "shell", "artifact",
    "place", "machine", "stages", "samples", "arithmetic", "energy_words", "energy", "idealized", "six",
}  # fmt: skip


def artifact(run: Path) -> Path:
    """An artifact as far as its card and hash go."""
    folder = run / "artifact"
    (folder / "source").mkdir(parents=True)
    for name in ("trimtab.safetensors", "config.json", "source/config.json"):
        (folder / name).write_text(name)
    base = Base(id="builtin:easyvqa-llava", revision="1", license="apache-2.0", kind="builtin", bytes16=7_825_408)
    said = Manifest(base=base, architecture="X", dtype="bfloat16", image_backend="pil", threads=2, lowered=False,
                    versions={}, bytes=2_234_368, weights={}, aliases={}, modified=("gptq: 4 bits",),
                    calibration={"verdict": "passed", "samples": 128})  # fmt: skip
    said = said.model_copy(update={"content_hash": content_hash(folder, said.model_dump(mode="json"))})
    (folder / "trimtab.json").write_text(said.dump())
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_json_twin_has_every_figure_with_unit_and_interval(tmp_path: Path, variant: str) -> None:
    run = make(tmp_path / "run", variant)
    render(run)
    text = (run / "report.json").read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(data) == KEYS
    assert (data["format"], data["kind"]) == (1, "report")
    rows = {}
    for line in (run / "readings.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[row["when"], row["name"]] = row
    assert len(data["figures"]) == len(rows)
    for one in data["figures"]:
        row = rows[one["when"], one["name"]]
        assert one["value"] == row["value"] or (one["value"] is None and row["value"] != row["value"])
        assert [one["low"], one["high"]] == (row["spread"] or [None, None])
        assert (one["unit"], one["n"], one["how"]) == (row["unit"], row["n"], row["how"])


def test_cells_of_the_twin_are_the_figures_that_are_read(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    render(run)
    data = json.loads((run / "report.json").read_text())
    row = next(row for row in data["before_after"]["rows"] if row[0]["text"] == "Accuracy, easyvqa")
    assert row[1]["text"] == "97.3 %"
    assert row[1]["value"] == 0.973
    assert row[1]["unit"] == "share"
    assert row[1]["low"] < 0.973 < row[1]["high"]
    assert row[1]["reading"] == "before/accuracy.easyvqa"
    chart = data["predicted"]["charts"][0]
    assert [one["name"] for one in chart["series"]] == ["as predicted", "predicted", "measured"]
    assert data["verdict"]["word"] == "ACCEPTED"
    assert data["scored"].startswith("Of 4 predicted figures")
    assert not data["samples"]["rows"]


def test_what_is_not_finite_is_null() -> None:
    assert plain({"a": float("nan"), "b": [float("inf"), 1.5], "c": (True, None, "x")}) == {
        "a": None, "b": [None, 1.5], "c": [True, None, "x"]}  # fmt: skip


def test_the_card_is_filled_and_the_artifact_stays_what_it_was(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    folder = artifact(run)
    before = content_hash(folder)
    render(run)
    assert content_hash(folder) == before == read_manifest(folder).content_hash
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0"
    for words in (
        "## Verdict: ACCEPTED", "- **Quality: ACCEPTED** Accuracy, easyvqa: \u22120.2 pt (97.3 % to 97.0 %; budget",
        "| Accuracy, easyvqa | 97.3 % (96.5 to 97.9 %) | 97.0 % (96.2 to 97.7 %) |",
        "| Prefill time, batch 8 | 131 ms (126 to 138 ms) | 78.7 ms (75.6 to 82.6 ms) | 0.60x | 9 | timed |",
        "| Decode time per token, batch 1 | 4.12 ms (3.96 to 4.33 ms) | 5.77 ms (5.54 to 6.06 ms) | **1.4x SLOWER** |",
        "| Peak memory | 612 MB | 655 MB |", "## Robustness", "| noise, severity 3 |", "## Controls",
        "| easyvqa: from the question alone | 67.0 %", "- **1 gptq**: bits 4, group\\_size 64", "none broken",
        "of one machine: Two cores of something, 2 threads", "Audit passed: 128 samples", "trimtab.load(",
        "19 became wrong", "Decode falls back to the reference kernel",
    ):  # fmt: skip
        assert words in card, words
    assert card.count("## Verdict") == 1
    render(run)
    assert (folder / "README.md").read_text() == card


def test_a_run_whose_artifact_is_gone_or_refused(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    render(run)
    assert not (run / "artifact").exists()
    folder = artifact(run)
    folder.rename(run / "artifact.refused")
    result = json.loads((run / "result.json").read_text())
    result |= {"verdict": "ANOMALOUS"}
    result["artifact"]["path"] = "artifact.refused"
    (run / "result.json").write_text(json.dumps(result))
    render(run)
    assert "## Verdict: ANOMALOUS" in (run / "artifact.refused" / "README.md").read_text()


def test_an_artifact_s_path_never_leads_out_of_the_run(tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    folder = artifact(other)
    run = make(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    result["artifact"]["path"] = "../other/artifact"
    (run / "result.json").write_text(json.dumps(result))
    render(run)
    assert not (folder / "README.md").exists()


def test_a_card_has_no_private_name_even_where_the_report_was_asked_for_samples(tmp_path: Path) -> None:
    recipe = "model: builtin:easyvqa-llava\ntask: {type: vqa, data: /mnt/ward/Mueller_Anna.csv, prompt: 'Tumour?'}\n"
    run = make(tmp_path / "run", recipe=recipe)
    folder = artifact(run)
    result = json.loads((run / "result.json").read_text())
    result["notes"] = ["Mueller_Anna.csv, row 7: Tumour? is long"]
    (run / "result.json").write_text(json.dumps(result))
    with (run / "readings.jsonl").open("a") as file:
        file.write(json.dumps(reading("before", "accuracy.Mueller_Anna", 0.5, "share", [0.4, 0.6], 50)) + "\n")
    render(run, with_samples=True)
    card = (folder / "README.md").read_text()
    for word in ("Mueller", "Tumour", "secret triangle", *(row["id"] for row in predictions())):
        assert word not in card
    stamped = json.loads((run / "report.json").read_text())
    assert stamped["stamped"] is True
    assert stamped["samples"]["rows"]
    render(run)
    assert "Mueller" not in (run / "report.json").read_text()
