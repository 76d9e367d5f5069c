"""What leaves is what the other engine answers to; what it does not answer to does not leave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import subjects
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file
from spoil import spoil
from torch import Tensor

from trimtab.core.errors import Anomaly, BadInput, Refused
from trimtab.export import dense, formats, gate, samples
from trimtab.export.deliver import SAID, deliver
from trimtab.load import open_source
from trimtab.load.artifact import read
from trimtab.tokens import DivPrune

SHARED = formats.CHECKS / "shared"


def test_a_dense_folder_is_answered_by_plain_transformers(artifacts: Path, tmp_path: Path) -> None:
    found = deliver(artifacts / "seeing", "dense", tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=1e-5)
    assert found.found.tokens > 200
    said = json.loads((tmp_path / "out" / SAID).read_text())
    assert (said["format"], said["checked"]["by"]) == ("dense", "transformers")
    assert said["from"] == "seeing"
    assert open_source(tmp_path / "out").library.config.model_type == "llava"
    with pytest.raises(Refused, match="exists"):
        deliver(artifacts / "seeing", "dense", tmp_path / "out")


def test_what_the_engine_answers_otherwise_does_not_leave(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def negate(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.0.mlp.up_proj.weight"].neg_()

    spoil(monkeypatch, dense, negate)
    with pytest.raises(Anomaly, match="answers differently: "):
        deliver(artifacts / "language", "dense", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_that_is_missing_fails_though_the_library_loads_it(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = dense.dense_state
    monkeypatch.setattr(dense, "dense_state", lambda model: dict(list(state(model).items())[1:]))
    with pytest.raises(Anomaly, match="missing_keys"):
        deliver(artifacts / "seeing", "dense", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_policies_and_unknown_formats_are_refused_by_name(sources: Path, tmp_path: Path) -> None:
    kept = subjects.trimmed(sources / "seeing", tmp_path / "kept", subjects.four, [DivPrune(keep=0.5)])
    with pytest.raises(Refused, match="divprune"):
        deliver(kept, "dense", tmp_path / "out")
    with pytest.raises(BadInput, match="nearest: 'dense'"):
        deliver(kept, "densе", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_policies_can_be_left_behind_which_is_said(sources: Path, tmp_path: Path) -> None:
    kept = subjects.trimmed(sources / "seeing", tmp_path / "kept", subjects.four, [DivPrune(keep=0.25)])
    found = deliver(kept, "dense", tmp_path / "out", without_policies=True)
    assert (
        found.found.equal == 1
    )  # of the artifact without them: with a quarter of its image tokens it answers otherwise
    assert "without the policies divprune" in found.notes[0]
    assert "divprune" in (tmp_path / "out" / SAID).read_text()
    plain = subjects.trimmed(sources / "language", tmp_path / "plain", subjects.four)
    assert "policies" not in " ".join(deliver(plain, "dense", tmp_path / "none", without_policies=True).notes)


def test_an_engine_that_is_not_there_is_named(artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "ENGINE", "no_such_engine")
    with pytest.raises(Refused, match="no_such_engine, which is not installed"):
        deliver(artifacts / "language", "dense", tmp_path / "out")


@pytest.mark.parametrize("name", sorted(formats.FORMATS))
def test_every_format_has_its_writer_and_its_check(name: str) -> None:
    module = formats.get(name).load()
    assert [part for part in ("ENGINE", "refuse", "write", "notes") if not hasattr(module, part)] == []
    assert formats.get(name).check.is_file()


def test_samples_are_rows_of_their_own_answered_in_float32(artifacts: Path, tmp_path: Path) -> None:
    loaded = read(artifacts / "seeing", lowered=False)
    samples.record(loaded, tmp_path / "samples")
    stored = load_numpy(tmp_path / "samples")
    own = load_file(artifacts / "seeing" / "gate.safetensors")
    rows = {name.partition(".")[0] for name in stored}
    assert len(rows) == 8
    assert stored["3.attention_mask"].all()
    assert stored["3.pixel_values"].shape == (1, 3, 16, 16)
    mask = own["0.in.attention_mask"][3].bool()
    assert stored["3.input_ids"].tolist() == own["0.in.input_ids"][3][mask].tolist()
    row = {name: torch.from_numpy(stored[f"3.{name}"]) for name in ("input_ids", "attention_mask", "pixel_values")}
    with torch.no_grad():
        logits = loaded.library(row["input_ids"][None], row["pixel_values"], row["attention_mask"][None]).logits[0]
    logs = logits.double().log_softmax(-1)[:-1].gather(1, row["input_ids"][1:, None])[:, 0]
    assert torch.allclose(torch.from_numpy(stored["3.nll"]).double(), -logs, atol=1e-5)
    assert stored["3.greedy"].tolist() == logits.argmax(-1).tolist()
    assert (~stored["3.counted"].astype(bool)).sum() == 15  # what stands before a placeholder
    assert ((stored["3.input_ids"][1:] == 3) == ~stored["3.counted"].astype(bool)[:-1]).all()


def test_the_arithmetic_of_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SHARED))
    import teacher

    rng = np.random.default_rng(0)
    ids, logits = rng.integers(0, 7, 5), rng.normal(size=(5, 7))
    nll = np.array([-np.log(np.exp(row)[at] / np.exp(row).sum()) for row, at in zip(logits, ids[1:], strict=False)])
    row = {
        "input_ids": ids,
        "greedy": logits.argmax(-1),
        "nll": nll.astype(np.float32),
        "counted": np.ones(5, np.uint8),
    }
    found = teacher.compare(lambda given: logits, [row, row])
    assert found["tokens"] == 10
    assert found["equal"] == 1
    assert found["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-6)
    assert found["perplexity"] == pytest.approx(found["reference"], rel=1e-6)
    found = teacher.compare(lambda given: np.roll(logits, 1, 1), [row])
    assert found["equal"] == 0
    logs = np.roll(logits, 1, 1)[np.arange(4), ids[1:]] - np.log(np.exp(logits[:4]).sum(1))
    assert found["worst"] == pytest.approx(np.abs(-logs - nll).max(), rel=1e-6)
    assert found["perplexity"] != pytest.approx(found["reference"], rel=0.01)
    wrong = logits.copy()
    wrong[1] = -wrong[1]
    assert teacher.compare(lambda given: wrong, [row])["equal"] == 0.8
    passed = teacher.compare(lambda given: wrong, [row | {"counted": np.array([1, 0, 1, 1, 1], np.uint8)}])
    assert (passed["tokens"], passed["equal"]) == (4, 1)
    assert passed["perplexity"] == pytest.approx(np.exp(np.delete(nll, 1).mean()), rel=1e-6)
    hidden = rng.normal(size=(4, 6))
    turned = np.where(np.arange(4)[:, None] == 2, -hidden, 2 * hidden)
    assert teacher.compare(lambda given: turned, [{"pixel_values": hidden, "output": hidden}])[
        "cosine"
    ] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("found", "near", "same"),
    [
        ({"equal": 0.99, "perplexity": 10.09, "reference": 10.0, "worst": 0.0009}, True, True),
        ({"equal": 0.99, "perplexity": 10.09, "reference": 10.0, "worst": 0.0011}, True, False),
        ({"equal": 0.99, "perplexity": 10.09, "reference": 10.0}, True, False),
        ({"equal": 0.989, "perplexity": 10.0, "reference": 10.0, "worst": 0.0}, False, False),
        ({"equal": 1.0, "perplexity": 10.11, "reference": 10.0, "worst": 0.0}, False, False),
        ({"equal": 1.0, "perplexity": 9.89, "reference": 10.0, "worst": 0.0}, False, False),
        ({"equal": 1.0, "perplexity": float("nan"), "reference": 10.0, "worst": 0.0}, False, False),
        ({"equal": 1.0, "perplexity": 10.0, "reference": 10.0, "worst": float("nan")}, True, False),
        ({"cosine": 0.9999995}, True, True),
        ({"cosine": 0.9991}, True, False),
        ({"cosine": 0.9989}, False, False),
        ({"cosine": float("nan")}, False, False),
    ],
)
def test_what_is_near_enough(found: dict[str, float], near: bool, same: bool) -> None:
    assert gate.Found(100, **found).near() is near
    assert gate.Found(100, **found).near(exact=True) is same


def test_a_check_that_ends_without_an_answer_is_an_anomaly(tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text("import sys; sys.exit('the engine cannot read it')")
    with pytest.raises(Anomaly, match="the engine cannot read it"):
        gate.ask(script, tmp_path, tmp_path)
    script.write_text(
        "import os, json, sys\nassert os.listdir() == [] and sys.flags.isolated\nprint('{\"tokens\": 3}')"
    )
    assert gate.ask(script, tmp_path, tmp_path).tokens == 3


def test_the_command(artifacts: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trimtab.cli", "export", str(artifacts / "language"), "--json", "--out"]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["format"] == "dense"
    assert said["found"]["equal"] == 1
    assert said["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert "dense" in done.stderr
    done = subprocess.run(
        [*command, str(tmp_path / "b"), "--format", "gguuf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--format" in json.loads(done.stdout.splitlines()[-1])["error"]
