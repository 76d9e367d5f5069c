"""Matrices that stay in their files: the same bits as in memory; a file that has changed is never believed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hublike import Batch, outputs, repository, same, words
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from trimtab.anatomy import tiny
from trimtab.core.errors import Anomaly, BadInput, Refused
from trimtab.core.linear import Host
from trimtab.core.stored import Stored
from trimtab.core.weight import Dense, bits, rows
from trimtab.load import Loaded, artifact, open_source, stream
from trimtab.load.checkpoint import SINGLE
from trimtab.measure import params
from trimtab.prune import Wanda
from trimtab.quantize import AWQ, GPTQ, MBQ, MRGPTQ, NF4, RTN, W8A8, QuantEase, SmoothQuant
from trimtab.run import sensitivity
from trimtab.run.walk import walk
from trimtab.run.weigh import maker

WALKED = {
    "llama": ["language", "embedding", "head"],
    "gemma3": ["language", "embedding", "head"],
    "llava": ["language", "vision", "projector", "embedding", "head"],
    "qwen2-vl": ["language", "vision", "projector", "embedding", "head"],
    "phi3": ["language"],  # with what no step touches
}


def both(folder: Path, **options: Any) -> tuple[Loaded, Loaded]:
    """The model in memory, and the same from its files."""
    held, streamed = (open_source(folder, stream=how, **options) for how in (False, True))
    assert (held.streamed, streamed.streamed) == (False, True)
    held.anatomy  # noqa: B018  (puts the hosts in)
    return held, streamed


def stored(loaded: Loaded) -> list[Host]:
    return [host for _, host in artifact.hosts(loaded.anatomy) if isinstance(host.w, Stored)]


@pytest.mark.parametrize("name", tiny.MODELS)
def test_every_family_answers_and_is_written_the_same(name: str, tmp_path: Path) -> None:
    _, batch = repository(tmp_path / "model", name)
    held, streamed = both(tmp_path / "model")
    assert len(stored(streamed)) >= 4, "layers were left in the file"
    assert streamed.anatomy.aliases() == held.anatomy.aliases()
    assert same(outputs(held.model, batch), outputs(streamed.model, batch))
    for count in (params.parameters, params.stored, params.stored16):
        assert count(streamed.library) == count(held.library)
    assert streamed.source == held.source
    assert (streamed.library.dtype, streamed.library.device) == (held.library.dtype, held.library.device)
    wrote = [artifact.write(tmp_path / how, one, {}) for how, one in (("held", held), ("streamed", streamed))]
    assert wrote[0].content_hash == wrote[1].content_hash
    shutil.rmtree(tmp_path / "model")
    assert same(outputs(held.model, batch), outputs(artifact.read(tmp_path / "streamed").model, batch)), "alone"


TRIMMED = [
    *((name, method) for name in WALKED for method in (RTN(4, 8), GPTQ(4, 8))),
    *(
        ("llama", method)
        for method in (AWQ(3, 8), QuantEase(3, 8, sweeps=1, outliers=0.02), NF4(8), MRGPTQ(), Wanda(0.5))
    ),
    *(("gemma3", method) for method in (W8A8(), SmoothQuant())),
]
"""SmoothQuant looks at all matrices that share an input, QuantEase keeps outliers beside its codes."""


@pytest.mark.parametrize(("name", "method"), TRIMMED, ids=[f"{name}-{one.CARD.name}" for name, one in TRIMMED])
def test_trimming_gives_the_same_reports_and_codes(name: str, method: Any, tmp_path: Path) -> None:
    _, batch = repository(tmp_path / "model", name, torch.bfloat16)
    held, streamed = both(tmp_path / "model")
    reports = [walk(one.anatomy, [batch], method, WALKED[name]) for one in (held, streamed)]
    assert reports[0] == reports[1]
    assert any(report.error > 0 for report in reports[0])
    for (path, a), (_, b) in zip(artifact.hosts(held.anatomy), artifact.hosts(streamed.anatomy), strict=True):
        assert a.w.spec() == b.w.spec(), path
        assert all(torch.equal(value, b.w.state_dict()[key]) for key, value in a.w.state_dict().items()), path
    held.lower()
    streamed.lower()
    assert all(getattr(host, "kernel", None) is None for host in stored(streamed)), "a copy would hold it"
    if held.engine is not None:  # a plan, whose arithmetic is another; what is streamed has none
        held.unlower()
        streamed.unlower()
    assert same(outputs(held.model, batch), outputs(streamed.model, batch))
    wrote = [artifact.write(tmp_path / how, one, {}) for how, one in (("held", held), ("streamed", streamed))]
    assert wrote[0].content_hash == wrote[1].content_hash


def test_gradients_are_measured_and_weigh_the_fit_the_same(tmp_path: Path) -> None:
    """MBQ: every block is run with a graph, whose matrices are read as they are needed."""
    _, batch = repository(tmp_path, "llava", torch.bfloat16)
    labels = torch.full_like(batch["input_ids"], -1)
    labels[:, -4:-1] = batch["input_ids"][:, -3:]
    made = []
    for one in both(tmp_path):
        known = sensitivity.measure(one.anatomy, [(batch, labels)])
        assert 0 < known.ratio(known.blocks[0]) != 1
        reports = walk(one.anatomy, [batch], MBQ(3, 8), ["language"], sensitivity=known,
                       make=maker(one.anatomy, MBQ(3, 8), "pooled", known))  # fmt: skip
        values = {name: host.w.state_dict() for name, host in artifact.hosts(one.anatomy) if "layers" in name}
        made.append((known, reports, {f"{name}.{key}": v for name, row in values.items() for key, v in row.items()}))
    (first, one, left), (second, other, right) = made
    assert torch.equal(first.absolute, second.absolute)
    assert one == other
    assert same(left, right)


def test_it_is_cast_as_it_is_read(tmp_path: Path) -> None:
    _, batch = repository(tmp_path, "gemma3")
    held, streamed = both(tmp_path, dtype="bfloat16")
    assert {host.w.dtype for host in stored(streamed)} == {torch.bfloat16}
    assert same(outputs(held.model, batch), outputs(streamed.model, batch))


def test_several_files_and_a_tokenizer(tmp_path: Path) -> None:
    model, batch = tiny.make("gemma3")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    words(tmp_path)
    held, streamed = both(tmp_path)
    files = {host.w.place.path for host in stored(streamed) if isinstance(host.w, Stored)}
    assert len(files) > 3
    assert same(outputs(held.model, batch), outputs(streamed.model, batch))
    wrote = [artifact.write(tmp_path / how, one, {}) for how, one in (("held", held), ("streamed", streamed))]
    assert wrote[0].content_hash == wrote[1].content_hash


@pytest.mark.parametrize("change", [0.0, 0.1], ids=["equal", "different"])
def test_a_tied_pair_that_is_stored_twice_is_what_the_library_makes_of_it(change: float, tmp_path: Path) -> None:
    _, batch = repository(tmp_path, "gemma3")
    tensors = load_file(tmp_path / SINGLE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + change
    save_file(tensors, tmp_path / SINGLE, {"format": "pt"})
    held, streamed = both(tmp_path)
    assert len(held.anatomy.aliases()) == (0 if change else 1)
    assert streamed.anatomy.aliases() == held.anatomy.aliases()
    assert same(outputs(held.model, batch), outputs(streamed.model, batch))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is mapped is told by Linux")
@pytest.mark.parametrize("how", [False, True], ids=["held", "streamed"])
def test_no_file_stays_mapped_and_memory_is_aligned(how: bool, tmp_path: Path) -> None:
    _, batch = repository(tmp_path, "llava")
    loaded = open_source(tmp_path, stream=how)
    outputs(loaded.model, batch)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert all(value.data_ptr() % 64 == 0 for value in loaded.library.parameters())


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 64)


def overwrite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-400:] = bytes(400)
    with path.open("rb+") as file:
        file.write(data)
    now = path.stat()
    os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns + 1))  # a file system's clock may be slower than a test


def replace(path: Path) -> None:
    """By other bytes of the same size and time, as a synchronization may."""
    now, other = path.stat(), path.with_suffix(".new")
    other.write_bytes(bytes(now.st_size))
    os.utime(other, ns=(now.st_atime_ns, now.st_mtime_ns))
    other.replace(path)


READ: dict[str, Callable[[Loaded, Batch, Path], object]] = {
    "forward": lambda loaded, batch, out: loaded.model(**batch),
    "rows": lambda loaded, batch, out: rows(
        dict(loaded.anatomy.embeddings())["model.embed_tokens"].w, torch.tensor([3])
    ),
    "write": lambda loaded, batch, out: artifact.write(out, loaded, {}),
}


@pytest.mark.parametrize("damage", [truncate, overwrite, replace, Path.unlink])
@pytest.mark.parametrize("read", READ)
def test_a_file_that_is_no_longer_the_same_is_named(damage: Callable[[Path], None], read: str, tmp_path: Path) -> None:
    _, batch = repository(tmp_path / "model", "llama")
    loaded = open_source(tmp_path / "model", stream=True)
    damage(tmp_path / "model" / SINGLE)
    with pytest.raises(BadInput, match=rf"{SINGLE}: .*{'weight' if read == 'write' else 'model.embed_tokens.weight'}"):
        READ[read](loaded, batch, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "written whole or not at all"


def test_what_stands_for_a_matrix_is_never_taken_for_it(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    loaded = open_source(tmp_path, stream=True)
    w = dict(loaded.anatomy.linears())["model.layers.0.mlp.up_proj"].w
    assert isinstance(w, Stored)
    assert bool(w.value.isnan().all())
    assert w.value.untyped_storage().nbytes() == w.dtype.itemsize, "no memory"
    assert bits(w) == 32 * w.shape[0] * w.shape[1]
    assert w.dense() is not w.dense(), "nothing is kept"
    assert loaded.library.to("cpu") is loaded.library
    with pytest.raises(
        Refused, match=r"embed_tokens\.weight: is read from its file as torch.float32 .*; accepted: dtype"
    ):
        loaded.library.to(torch.bfloat16)
    with pytest.raises(RuntimeError, match="cannot be loaded into"):
        w.load_state_dict({"value": torch.zeros(w.shape)})


def test_a_blank_that_no_host_took_is_an_anomaly(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    loaded = open_source(tmp_path, stream=False)
    value = loaded.library.model.norm.weight
    with pytest.raises(Anomaly, match=r"neither read nor left in the files: model\.norm\.weight"):
        stream.settle(loaded.anatomy, {value.data_ptr(): (None, value)})  # type: ignore[dict-item]


def room(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(stream, "available", lambda: int(size))


def test_by_itself_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = repository(tmp_path, "llama")
    size = sum(value.nbytes for value in model.parameters())
    room(monkeypatch, size / 0.6 + 2)
    assert not open_source(tmp_path).streamed
    assert open_source(tmp_path).notes == []
    room(monkeypatch, size / 0.6 - 2)
    loaded = open_source(tmp_path)
    assert loaded.streamed
    assert [one[:57] for one in loaded.notes] == ["weights are read from the files as they are needed: 0.0 G"]
    assert not open_source(tmp_path, dtype="bfloat16").streamed, "in 16 bits it is half as large"
    assert not open_source(tmp_path, stream=False).streamed


def test_what_cannot_be_streamed_is_refused_or_loaded_as_usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 has no anatomy; its matrices lie transposed."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=32))
    model.save_pretrained(tmp_path)
    size = sum(value.nbytes for value in model.parameters())
    reason = "cannot be read from the files as they are needed .*: architecture: got model_type 'gpt2'"
    with pytest.raises(Refused, match=reason):
        open_source(tmp_path, stream=True)
    room(monkeypatch, size * 1.2)
    loaded = open_source(tmp_path)
    assert not loaded.streamed
    assert "could not be left in the files: architecture: got model_type 'gpt2'" in loaded.notes[0]
    room(monkeypatch, size * 0.9)
    with pytest.raises(Refused, match=reason):
        open_source(tmp_path)


def test_an_artifact_is_not_streamed(tmp_path: Path) -> None:
    repository(tmp_path / "model", "llama")
    artifact.write(tmp_path / "out", open_source(tmp_path / "model"), {})
    with pytest.raises(BadInput, match="stream: got True for a model of kind 'artifact'"):
        open_source(tmp_path / "out", stream=True)
    assert not open_source(tmp_path / "out", stream=False).streamed


def test_missing_and_misshapen_tensors_are_named_as_usual(tmp_path: Path) -> None:
    repository(tmp_path, "llama")
    tensors: dict[str, Tensor] = load_file(tmp_path / SINGLE)
    lost = tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, tmp_path / SINGLE, {"format": "pt"})
    with pytest.raises(BadInput, match=r"1 tensors .* missing from the checkpoint: model\.layers\.0\.mlp\.up_proj"):
        open_source(tmp_path, stream=True)
    save_file(tensors | {"model.layers.0.mlp.up_proj.weight": lost[1:].clone()}, tmp_path / SINGLE, {"format": "pt"})
    with pytest.raises(BadInput, match="LlamaForCausalLM cannot be loaded from it"):
        open_source(tmp_path, stream=True)


def test_dense_weights_are_what_is_reloaded(tmp_path: Path) -> None:
    """No reference to the source's file is in an artifact."""
    repository(tmp_path / "model", "llama")
    artifact.write(tmp_path / "out", open_source(tmp_path / "model", stream=True), {})
    assert all(isinstance(host.w, Dense) for _, host in artifact.hosts(artifact.read(tmp_path / "out").anatomy))
    assert str(tmp_path / "model") not in (tmp_path / "out" / "trimtab.json").read_text()
