"""The gate lets the artifact through that was written, and no other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hublike import edit_header, edit_json, repository, words
from safetensors.torch import load_file, save_file

from trimtab import gate
from trimtab.core.errors import Anomaly, BadInput
from trimtab.load import Loaded, artifact, gate_samples, open_source
from trimtab.load.hashing import content_hash

WEIGHTS = "trimtab.safetensors"
LAYERS = "model.language_model.layers"


@pytest.fixture(autouse=True)
def _threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def flip(folder: Path) -> None:
    """One bit of one weight: the lowest bit of a 4-bit code in the middle of the file."""
    tensors = load_file(folder / WEIGHTS)
    tensors[f"{LAYERS}.0.mlp.up_proj.w.codes"][60, 15] ^= 1
    save_file(tensors, folder / WEIGHTS)


def swap(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    turned = {}
    for name, value in tensors.items():
        for one, other in ((f"{LAYERS}.0.", f"{LAYERS}.1."), (f"{LAYERS}.1.", f"{LAYERS}.0.")):
            if name.startswith(one):
                turned[name] = tensors[name.replace(one, other)]
                break
        else:
            turned[name] = value
    save_file(turned, folder / WEIGHTS)


def blind(folder: Path) -> None:
    save_file({k: v for k, v in load_file(folder / WEIGHTS).items() if "vision_tower" not in k}, folder / WEIGHTS)


def keep_more(folder: Path) -> None:
    said = json.loads((folder / "trimtab.json").read_text())
    said["policies"][0]["knobs"]["keep"] = 0.75
    (folder / "trimtab.json").write_text(json.dumps(said))


def keep_all(folder: Path) -> None:
    edit_json(folder / "trimtab.json", policies=[])


def claim(folder: Path) -> None:
    edit_json(folder / "trimtab.json", modified=["nothing at all"])


def truncate(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])


def rescale(folder: Path) -> None:
    edit_json(folder / "source/config.json", projector_hidden_act="relu")


def gone(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def retype(folder: Path) -> None:
    edit_header(folder / WEIGHTS, lambda table: table["lm_head.w.value"].update(dtype="I32"))


def damaged(folder: Path, out: Path, damage: Callable[[Path], None], seal: bool) -> Path:
    """A damaged copy; with ``seal`` size and hash are made to fit again, as a faulty writer would have it."""
    shutil.copytree(folder, out)
    damage(out)
    if seal:
        edit_json(out / "trimtab.json", bytes=(out / WEIGHTS).stat().st_size)
        edit_json(out / "trimtab.json", content_hash=content_hash(out))
    return out


def failed(result: gate.GateResult) -> set[str]:
    return {check["name"] for check in result.checks if check["holds"] is False}


@pytest.mark.parametrize("damage", [flip, swap, blind, keep_more, keep_all, claim, truncate, rescale, gone, retype])
def test_what_was_changed_on_disk_fails(
    damage: Callable[[Path], None], trimmed_llava: tuple[Loaded, Path], tmp_path: Path
) -> None:
    result = gate.check(damaged(trimmed_llava[1], tmp_path / "out", damage, seal=False))
    assert not result.passed
    assert result.exit_status == 3
    assert "content hash" in failed(result)
    assert len(result.reasons) >= 1


@pytest.mark.parametrize(
    ("damage", "caught_by"),
    [
        (flip, "logits"), (swap, "logits"), (blind, "loads"), (keep_more, "logits"), (keep_all, "logits"),
        (rescale, "logits"), (retype, "loads"),
    ],
)  # fmt: skip
def test_what_was_written_wrong_fails_though_its_hash_fits(
    damage: Callable[[Path], None], caught_by: str, trimmed_llava: tuple[Loaded, Path], tmp_path: Path
) -> None:
    result = gate.check(damaged(trimmed_llava[1], tmp_path / "out", damage, seal=True))
    assert failed(result) == {caught_by}
    assert not result.passed


def test_the_claimed_bytes_are_those_on_disk(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    for number, much in enumerate((-1, 1)):
        out = tmp_path / str(number)
        shutil.copytree(trimmed_llava[1], out)
        edit_json(out / "trimtab.json", bytes=(out / WEIGHTS).stat().st_size + much)
        edit_json(out / "trimtab.json", content_hash=content_hash(out))
        assert failed(gate.check(out)) == {"bytes on disk"}


def test_a_good_artifact_passes_in_a_fresh_process(
    trimmed_llava: tuple[Loaded, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torch.py").write_text("raise SystemExit('a file of the working directory was imported')")
    result = gate.run_gate(trimmed_llava[1])
    assert result.passed, result.text()
    assert [check["name"] for check in result.checks] == ["bytes on disk", "content hash", "loads", "logits"]
    assert all(check["holds"] for check in result.checks)
    assert result.samples == 2
    assert result.threads == torch.get_num_threads()
    assert json.loads(json.dumps(result.row()))["passed"] is True


def test_a_bad_one_fails_in_a_fresh_process(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    out = damaged(trimmed_llava[1], tmp_path / "out", flip, seal=True)
    result = gate.run_gate(out)
    assert (result.passed, result.exit_status) == (False, 3)
    assert failed(result) == {"logits"}


def test_the_command_says_what_it_found(
    trimmed_llava: tuple[Loaded, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.main([str(trimmed_llava[1])]) == 0
    assert "bit-equal on 2 batches" in capsys.readouterr().out
    out = damaged(trimmed_llava[1], tmp_path / "out", swap, seal=True)
    assert gate.main([str(out)]) == 3
    assert "FAILED  logits" in capsys.readouterr().out
    assert gate.main([str(tmp_path)]) == 2
    assert "not an artifact" in capsys.readouterr().out
    shutil.copytree(trimmed_llava[1], tmp_path / "newer")
    edit_json(tmp_path / "newer/trimtab.json", format=2)
    assert gate.main([str(tmp_path / "newer"), "--json"]) == 2
    assert "pip install -U trimtab" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_a_process_that_ends_otherwise_is_an_anomaly(
    trimmed_llava: tuple[Loaded, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(Anomaly, match="status 1"):
        gate.run_gate(trimmed_llava[1])


def test_private_samples_stay_outside_and_are_compared(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    loaded, _ = trimmed_llava
    batch = dict(loaded.processor(text=["<image>\nwhat is it?\n"], images=[_picture()], return_tensors="pt"))
    samples = gate_samples.record(loaded.model, [batch], tmp_path / "samples.safetensors")
    assert gate_samples.conditions(samples).private
    artifact.write(tmp_path / "out", loaded, {}, samples)
    carried = load_file(tmp_path / "out/gate.safetensors")
    assert not any(torch.equal(value, batch["pixel_values"]) for value in carried.values())
    assert gate.check(tmp_path / "out", samples).samples == 1
    assert gate.check(tmp_path / "out", samples).passed
    artifact.write(tmp_path / "public", loaded, {}, gate_samples.record(
        loaded.model, [batch], tmp_path / "public.safetensors", private=False))  # fmt: skip
    assert (tmp_path / "public/gate.safetensors").read_bytes() == (tmp_path / "public.safetensors").read_bytes()


def _picture() -> object:
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8))


def test_answers_that_are_not_finite_are_no_samples(tmp_path: Path) -> None:
    repository(tmp_path / "source", "llama")
    words(tmp_path / "source")
    loaded = open_source(tmp_path / "source")
    batch = dict(loaded.tokenizer(["w4 w5"], return_tensors="pt"))
    with torch.no_grad():
        loaded.model.model.norm.weight[0] = torch.inf
    with pytest.raises(Anomaly, match="not finite"):
        gate_samples.record(loaded.model, [batch], tmp_path / "samples")
    assert not (tmp_path / "samples").exists()
    with pytest.raises(BadInput, match="no batch"):
        gate_samples.record(loaded.model, [], tmp_path / "samples")


def test_every_bit_of_every_answer_counts(tmp_path: Path) -> None:
    value = torch.randn(2, 3, 500)
    kept = gate_samples._kept(value)
    for change in (value[0, 1, 77], value[1, 2, 499]):
        before = change.clone()
        change.copy_(torch.nextafter(change, torch.tensor(9.0)))
        assert not torch.equal(gate_samples._kept(value)["digest"], kept["digest"])
        change.copy_(before)
    assert torch.equal(gate_samples._kept(value)["digest"], kept["digest"])
    assert not torch.equal(gate_samples._kept(value.view(3, 2, 500))["digest"], kept["digest"])
    assert kept["columns"].shape == (6, 16)
    assert torch.equal(kept["greedy"], value.view(6, 500).argmax(-1).int())


class Fixed(torch.nn.Module):
    """Answers the same whatever it is asked."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, **_: torch.Tensor) -> Fixed:
        return self


def test_the_least_difference_anywhere_is_reported_with_its_size(tmp_path: Path) -> None:
    logits = torch.randn(2, 3, 500)
    logits[0, 0] = torch.nan
    path = gate_samples.record(Fixed(logits.clone()), [{"input_ids": torch.ones(2, 3)}] * 2, tmp_path / "samples")
    assert gate_samples.compare(Fixed(logits.clone()), path) == []
    changed = logits.clone()
    changed[1, 2, 5] = torch.nextafter(changed[1, 2, 5], torch.tensor(9.0))  # not one of the columns that are kept
    found = gate_samples.compare(Fixed(changed), path)
    assert [(row.batch, row.size, row.tokens) for row in found] == [(0, 0.0, 1.0), (1, 0.0, 1.0)]
    changed[0, 1, 0] += 0.25
    assert gate_samples.compare(Fixed(changed), path)[0].size == pytest.approx(0.25, rel=1e-5)
    changed[1, 1] = torch.nan
    assert "NaN" in gate_samples.compare(Fixed(changed), path)[0].reason
    assert "shape" in gate_samples.compare(Fixed(logits[:, :2]), path)[0].reason


PLAIN = """
import sys
from transformers import (AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText,
                          LlavaForConditionalGeneration, LlavaModel)
loaded = []
for kind in (AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, LlavaForConditionalGeneration,
             LlavaModel):
    for folder in (sys.argv[1], sys.argv[1] + "/source"):
        if kind is AutoConfig and folder.endswith("source"):
            continue  # the library's own config is there on purpose
        try:
            kind.from_pretrained(folder)
            loaded.append((kind.__name__, folder))
        except (OSError, ValueError, KeyError) as error:
            pass
assert "trimtab" not in sys.modules
print(loaded)
"""


def test_plain_transformers_raises(trimmed_llava: tuple[Loaded, Path], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, str(trimmed_llava[1])], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
