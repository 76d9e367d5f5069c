"""Files with k-quants: answered by others as by what was rounded; refused where there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import subjects
import torch

import untested
from trimtab.core.errors import Anomaly, Refused
from trimtab.core.weight import Quantized
from trimtab.export import gguf as form
from trimtab.export.deliver import SAID, deliver
from trimtab.export.gguf import entry
from trimtab.export.gguf.coarse import KQuants
from trimtab.export.gguf.kquant import KQuant
from trimtab.load import open_source
from trimtab.load.artifact import hosts, read
from trimtab.quantize import RTN

untested.need("gguf")
import gguf  # noqa: E402

WIDE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMTAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def mixed(name: str) -> Any:
    """4 bits with zeros, 3 without where the MLP ends, 4 without in queries; the words and the patches dense."""
    if "layers" not in name and "projector" not in name:
        return None
    if name.endswith(("down_proj", "fc2")):
        return RTN(bits=3, group_size=64, symmetric=True)
    return RTN(bits=4, group_size=32, symmetric=name.endswith("q_proj"))


def two(name: str) -> Any:
    return RTN(bits=2, group_size=32) if "layers" in name else None


def made(folder: Path, kind: str, choose: Callable[[str], Any] = mixed, **more: Any) -> Path:
    make = {"language": subjects.language, "seeing": subjects.seeing}[kind]
    source, sizes = folder / f"{kind}-source", {"dtype": torch.bfloat16} | WIDE | more
    if more.get("tie_word_embeddings"):
        make(source, **sizes)
    else:
        subjects.sure(make, source, **sizes)
    return subjects.trimmed(source, folder / kind, choose)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    for kind in ("language", "seeing"):
        made(folder, kind)
    return folder


def kinds(file: Path) -> Counter[str]:
    """How many matrices of each form."""
    return Counter(one.tensor_type.name for one in gguf.GGUFReader(file).tensors if len(one.shape) == 2)


@pytest.mark.parametrize("kind", ["language", "seeing"])
def test_the_engine_answers_exactly_as_what_is_written_and_nearly_as_the_artifact(
    kind: str, artifacts: Path, tmp_path: Path
) -> None:
    found = deliver(artifacts / kind, "gguf", tmp_path / "out", k_quants=True)
    said = json.loads((tmp_path / "out" / SAID).read_text())
    checked = said["checked"]
    assert checked["as_written"]["equal"] == 1
    assert checked["as_written"]["worst"] < 1e-4
    assert checked["worst"] > 10 * checked["as_written"]["worst"], "of the artifact's own weights it is not"
    assert found.found.equal == checked["equal"] >= 0.99
    assert checked["reference"] != checked["as_written"]["reference"]
    counts = kinds(tmp_path / "out" / form.MODEL)
    assert counts == {"BF16": 2, "Q4_0": 2, "Q3_K": 2, "Q4_K": 10}
    if kind == "seeing":
        counts = kinds(tmp_path / "out" / form.EYES)
        assert {name: counts[name] for name in ("Q4_0", "Q3_K", "Q4_K")} == {"Q4_0": 2, "Q3_K": 2, "Q4_K": 10}
    times = 2 if kind == "seeing" else 1
    whole = 28 if kind == "seeing" else 14
    text = "\n".join(said["notes"])
    assert f"k-quants: {whole - 2 * times} of {whole} quantized matrices; the others" in text
    assert "4-bit codes rounded onto Q4_K, 4.5 bits for each weight: these weights are not the artifact's" in text
    assert f"{2 * times} matrices of 3-bit codes rounded onto Q3_K, 3.4375 bits for each weight" in text
    assert f"{2 * times} matrices of 4-bit codes as Q4_0, 4.5 bits for each weight, value for value" in text


def four(name: str) -> Any:
    return RTN(bits=4, group_size=32)


@pytest.mark.parametrize(("grid", "tied"), [(mixed, False), (two, False), (four, True)])
def test_there_and_back_the_logits_are_those_of_what_was_rounded(
    grid: Callable[[str], Any], tied: bool, tmp_path: Path
) -> None:
    loaded = read(made(tmp_path, "language", grid, tie_word_embeddings=tied), lowered=False)
    before = {name: host.w for name, host in hosts(loaded.anatomy)}
    writer = KQuants(loaded)
    (tmp_path / "out").mkdir()
    writer.write(loaded, tmp_path / "out")
    ids = torch.arange(4, 50)[None]
    with torch.no_grad():
        own = loaded.library(ids).logits
        changed = writer.instead(loaded)
        rounded = loaded.library(ids).logits
        back = open_source(tmp_path / "out" / form.MODEL).library(ids).logits
    assert torch.equal(back, rounded)
    assert not torch.equal(back, own)
    assert {id(w) for _, w in changed} == set(writer.held)
    for host, w in changed:
        host.w = w
    assert {name: host.w for name, host in hosts(loaded.anatomy)} == before
    counts = kinds(tmp_path / "out" / form.MODEL)
    assert counts["Q4_K"] + counts["Q3_K"] + counts["Q2_K"] == len(writer.held) == (12 if grid is mixed else 14 + tied)


def test_rows_that_256_does_not_divide_stay_exact(tmp_path: Path) -> None:
    loaded = read(made(tmp_path, "language", intermediate_size=640), lowered=False)
    writer = KQuants(loaded)
    writer.write(loaded, tmp_path)
    found = {one.name: one for one in gguf.GGUFReader(tmp_path / form.MODEL).tensors}
    for layer in (0, 1):
        one = found[f"blk.{layer}.ffn_down.weight"]
        w = dict(hosts(loaded.anatomy))[f"model.layers.{layer}.mlp.down_proj"].w
        assert isinstance(w, Quantized)
        assert (one.tensor_type.name, w.shape[1], w.bits) == ("Q4_0", 640, 3)
        assert torch.equal(torch.tensor(gguf.quants.dequantize(one.data, one.tensor_type)).bfloat16(), w.dense())
        assert found[f"blk.{layer}.ffn_up.weight"].tensor_type.name == "Q4_K"


def test_without_the_word_every_weight_is_the_artifacts(artifacts: Path) -> None:
    loaded = read(artifacts / "seeing", lowered=False)
    text = "\n".join(form.notes(loaded))
    assert "_K" not in text
    assert text.count("value for value") == 3
    writer = KQuants(loaded)
    writer.refuse(loaded)
    assert len(writer.notes(loaded)) > len(form.notes(loaded)) - 3


def test_groups_of_256_are_on_the_grid_so_the_engine_is_asked_once(tmp_path: Path) -> None:
    artifact = made(tmp_path, "language", lambda name: RTN(bits=3, group_size=256, symmetric=True))
    found = deliver(artifact, "gguf", tmp_path / "out", k_quants=True)
    checked = json.loads((tmp_path / "out" / SAID).read_text())["checked"]
    assert "as_written" not in checked
    assert found.found.worst is not None
    assert found.found.worst < 1e-3
    assert any("3-bit codes as Q3_K, 3.4375 bits for each weight, value for value" in note for note in found.notes)


def test_a_wrong_byte_does_not_leave_though_rounding_would_hide_it(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, done = entry.kbytes.bytes_of, []

    def wrong(w: KQuant) -> torch.Tensor:
        data = right(w)
        if w.grid.kind == "Q3_K" and not done:
            data[3, 40] ^= 0xFF  # four codes
            done.append(w)
        return data

    monkeypatch.setattr(entry.kbytes, "bytes_of", wrong)
    with pytest.raises(Anomaly, match=r"answers differently.*every loss within") as caught:
        deliver(artifacts / "language", "gguf", tmp_path / "out", k_quants=True)
    assert "leave --k-quants out" not in str(caught.value)
    assert done
    assert list(tmp_path.iterdir()) == []


def ran(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trimtab.cli", "export", *map(str, words), "--k-quants", "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_the_rounding_changes_too_much_does_not_leave(tmp_path: Path) -> None:
    """Two bits of a model at random weights, whose tokens are nearly tied."""
    subjects.language(tmp_path / "source", torch.bfloat16, **WIDE)
    subjects.trimmed(tmp_path / "source", tmp_path / "artifact", two)
    done = ran(tmp_path / "artifact", "--format", "gguf", "--out", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    assert "answers differently" in done.stdout
    assert "next: leave --k-quants out" in done.stdout
    assert not (tmp_path / "out").exists()


def test_formats_without_k_quants_refuse_the_word_by_name(artifacts: Path, tmp_path: Path) -> None:
    for name in ("dense", "onnx", "compressed-tensors", "gptq"):
        with pytest.raises(Refused, match=f"--k-quants: --format {name} has none; accepted: --format gguf"):
            deliver(artifacts / "language", name, tmp_path / "out", k_quants=True)
    done = ran(artifacts / "language", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "--k-quants: --format dense has none" in done.stdout


def test_what_no_block_holds_is_refused_as_ever(tmp_path: Path) -> None:
    artifact = made(tmp_path, "language", lambda name: RTN(bits=8, group_size=32, clip=False))
    with pytest.raises(Refused, match=r"8 bits in groups of 32 with a zero point.*symmetric: true"):
        deliver(artifact, "gguf", tmp_path / "out", k_quants=True)
