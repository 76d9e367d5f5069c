"""Runs side by side: what is refused, which ratios are made, and differences by pairs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from report.fixture import make
from trimtab.core.errors import BadInput, Refused
from trimtab.evaluate.paired import drop
from trimtab.evaluate.prediction import Prediction
from trimtab.report.compare import build, compare, write


def two(folder: Path, *names: str, **result: Any) -> list[Path]:
    """Runs of the accepted variant, the last with other keys in its result."""
    found = [make(folder / name) for name in names or ("first", "second")]
    known = json.loads((found[-1] / "result.json").read_text())
    (found[-1] / "result.json").write_text(json.dumps(known | result))
    return found


def reading(run: Path, when: str, name: str, **more: Any) -> None:
    rows = [json.loads(line) for line in (run / "readings.jsonl").read_text().splitlines()]
    for row in rows:
        if (row["when"], row["name"]) == (when, name):
            row |= more
    (run / "readings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def answered(run: Path, right: dict[str, bool]) -> None:
    rows = [{"id": name, "before": "a", "after": "a", "was_correct": True, "correct": one}
            for name, one in right.items()]  # fmt: skip
    (run / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_other_units_are_refused_and_both_runs_named(tmp_path: Path) -> None:
    runs = two(tmp_path)
    reading(runs[1], "after", "latency.prefill.b8", value=78.7, unit="ms")
    with pytest.raises(Refused, match=r"latency\.prefill\.b8 is in 's' in first and in 'ms' in second"):
        compare(runs)


def test_two_spellings_of_a_unit_are_one(tmp_path: Path) -> None:
    runs = two(tmp_path)
    reading(runs[1], "after", "parameters", unit="parameters")
    assert compare(runs).rows


def test_other_data_are_refused_and_both_runs_named(tmp_path: Path) -> None:
    runs = two(tmp_path, data={"accuracy.easyvqa": "bad" * 20, "accuracy.easyvqa-grid": "5eed" * 16})
    with pytest.raises(Refused, match=r"accuracy\.easyvqa was measured on other data in first .* than in second"):
        compare(runs)
    assert not (tmp_path / "out.html").exists()


def test_runs_without_a_hash_are_warned_of_and_not_paired(tmp_path: Path) -> None:
    found = build(two(tmp_path, data={}))
    assert any("No hash of the data was recorded in second" in words for words in found.cautions)
    assert not found.paired
    assert "second: no hash of its data was recorded" in found.paired_words


def test_times_of_two_machines_are_in_no_ratio_and_bytes_are(tmp_path: Path) -> None:
    runs = two(tmp_path, machine={"cpu": "Another", "threads": 8})
    reading(runs[1], "after", "bytes.weights", value=1_117_184)
    found = build(runs)
    rows = {row[0].text: row[2] for row in found.table.rows}
    assert rows["Weights"].note == "0.50x"
    for name in ("Prefill time, batch 8", "Decode time per token, batch 1", "Peak memory"):
        assert rows[name].text
        assert "x" not in rows[name].note
    assert "Machines differ: times are shown, and are in no ratio." in found.cautions
    assert [chart.title for chart in found.cost.charts] == ["Weights", "Prefill time, batch 1, on different machines"]


def test_times_of_one_machine_are_in_a_ratio_whatever_was_free_in_its_memory(tmp_path: Path) -> None:
    machine = {"cpu": "Two cores of something", "threads": 2, "available": 1234, "versions": {"torch": "9"}}
    runs = two(tmp_path, machine=machine)
    reading(runs[1], "after", "latency.prefill.b8", value=0.0787 * 2)
    found = build(runs)
    row = next(row for row in found.table.rows if row[0].text == "Prefill time, batch 8")
    assert row[1].note == "75.6 to 82.6 ms"
    assert row[2].note.endswith("2.0x")
    assert found.cautions == ("Versions of libraries differ.",)


def test_a_machine_that_was_not_recorded_is_no_other_ones(tmp_path: Path) -> None:
    first, second = two(tmp_path, machine={})
    other = make(tmp_path / "third")
    for runs in ([first, second], [second, other]):  # the second's is not known, then neither
        (other / "result.json").write_text((second / "result.json").read_text())
        assert any(words.startswith("Machines differ") for words in build(runs).cautions)


def test_differences_are_those_of_pairs(tmp_path: Path) -> None:
    runs, rng = two(tmp_path, "a", "b", "c"), random.Random(5)
    names = [f"q{i}" for i in range(300)]
    right = [{name: rng.random() < share for name in names} for share in (0.95, 0.9, 0.6)]
    for run, one in zip(runs, right, strict=True):
        answered(run, dict(rng.sample(sorted(one.items()), len(one))))  # in another order
    found = build(runs)
    assert [row[0].text for row in found.paired.rows] == ["b since a", "c since a", "c since b"]
    a, c = ([Prediction(name, "", one[name], float(one[name])) for name in names] for one in (right[0], right[2]))
    expected = drop(a, c, 0.025)
    cell = found.paired.rows[1][1]
    assert cell.value == pytest.approx(-expected.value)
    assert cell.spread == pytest.approx((-expected.high, -expected.low))
    assert cell.text.endswith("LOWER")
    assert [one.text for one in found.paired.rows[1][2:]] == [str(expected.lost), str(expected.gained), "300"]


def test_only_what_both_were_asked_is_paired(tmp_path: Path) -> None:
    runs = two(tmp_path)
    answered(runs[0], {"a": True, "b": True, "c": False})
    answered(runs[1], {"b": False, "c": True, "d": True})
    (row,) = build(runs).paired.rows
    assert [cell.text for cell in row[2:]] == ["1", "1", "2"]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [make(tmp_path / "x" / "run"), make(tmp_path / "y" / "run"), make(tmp_path / "z" / "run")]
    assert [row[0].text for row in build(runs).runs.rows] == ["run", "run (2)", "run (3)"]


def test_the_page_and_its_twins(tmp_path: Path) -> None:
    out = tmp_path / "new" / "ab.html"
    write(two(tmp_path), out)
    data = json.loads(out.with_suffix(".json").read_text())
    assert set(data) == {"format", "kind", "runs", "cautions", "table", "cost", "paired", "paired_words"}
    assert (data["format"], data["kind"]) == (1, "compare")
    weights = next(row for row in data["table"]["rows"] if row[0]["text"] == "Weights")
    assert weights[2] == {"text": "2.23 MB", "value": 2_234_368, "unit": "bytes", "reading": "after/bytes.weights",
                          "note": "1.00x"}  # fmt: skip
    text = out.with_suffix(".md").read_text()
    assert "| Weights | 2.23 MB | 2.23 MB (1.00x) |" in text
    assert 'data-chart="cost-1"' in out.read_text()
    with pytest.raises(BadInput, match=r"--out: got .*ab\.txt"):
        write(two(tmp_path / "more"), tmp_path / "ab.txt")


def test_no_answer_or_id_is_in_a_comparison(tmp_path: Path) -> None:
    runs = two(tmp_path)
    answered(runs[0], {"patient-7.png": True})
    answered(runs[1], {"patient-7.png": False})
    write(runs, tmp_path / "ab.html")
    for suffix in (".html", ".md", ".json"):
        assert "patient-7" not in (tmp_path / "ab.html").with_suffix(suffix).read_text()


def test_the_command_writes_where_it_is_told(tmp_path: Path) -> None:
    runs = two(tmp_path)
    out = tmp_path / "here.html"
    command = [sys.executable, "-m", "trimtab.cli", "compare", *map(str, runs)]
    done = subprocess.run([*command, "--out", str(out), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["page"] == str(out)
    assert [run["folder"] for run in last["runs"]] == [str(run) for run in runs]
    assert out.is_file()
    (runs[1] / "result.json").write_text(json.dumps(last["runs"][1] | {"data": {"accuracy.easyvqa": "other"}}))
    refused = subprocess.run(
        [*command, "--out", str(tmp_path / "no.html")], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "first" in refused.stderr
    assert "second" in refused.stderr
    assert not (tmp_path / "no.html").exists()
