"""Encoders, and models whose pictures are cut and packed: what is recorded of them, and a dense folder beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from seeing import NUMPY, PROCESSORS, image_id, siglip, tokenizer
from trimtab.anatomy import tiny
from trimtab.core.fit import Site
from trimtab.core.linear import Linear
from trimtab.export import dense, formats, gate, samples
from trimtab.export.state import dense_state
from trimtab.load import artifact, gate_samples, open_source
from trimtab.quantize import RTN

ALL: dict[str, Callable[[], Any]] = {"bert": tokenizer, "siglip": siglip, **PROCESSORS}


@NUMPY
@pytest.mark.parametrize("kind", ["bert", "siglip", "gemma3-vision", "idefics3", "paligemma"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_recorded_is_what_a_dense_folder_answers(
    kind: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(formats.CHECKS / "shared"))
    import library
    import teacher

    model, batch = tiny.make(kind)
    processor = ALL[kind]()
    model.to(dtype).save_pretrained(tmp_path / "source")
    processor.save_pretrained(tmp_path / "source")
    if kind in PROCESSORS:
        config = json.loads((tmp_path / "source" / "config.json").read_text())
        config |= {"image_token_id": image_id(processor), "image_token_index": image_id(processor)}
        (tmp_path / "source" / "config.json").write_text(json.dumps(config))
    loaded = open_source(str(tmp_path / "source"))
    for name, host in loaded.anatomy.linears():
        host.w = RTN(bits=4, group_size=-1)(host.w, Site(name, host.w.dense))
    own = None
    if kind == "siglip":  # its tiny model has too few positions for the synthetic sentences
        count = min(map(len, batch.values()))  # as many pictures as texts
        batch = {key: value[:count] for key, value in batch.items()}
        batch = {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}
        own = gate_samples.record(loaded.model, [batch], tmp_path / "gate", private=False)
    artifact.write(tmp_path / "artifact", loaded, {}, own)
    loaded = artifact.read(tmp_path / "artifact", lowered=False)
    (tmp_path / "out").mkdir()
    dense.write(loaded, tmp_path / "out")
    samples.record(loaded, tmp_path / "samples")
    rows = list(teacher.rows(load_file(tmp_path / "samples")))
    found = gate.Found(**teacher.compare(library.asked(library.open_model(tmp_path / "out").float()), rows))
    assert found.near(exact=True), found
    assert (found.cosine is None) is (kind not in ("bert", "siglip"))
    assert len(rows) >= 2
    assert all(row["attention_mask"].all() for row in rows if "attention_mask" in row)


class Two(torch.nn.Module):
    """Two linears of one matrix, each with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        one = Linear.of(torch.nn.Linear(4, 3), "one")
        self.one = one
        self.two = Linear(one.w, torch.nn.Parameter(torch.randn(3)), "two")


def test_a_shared_matrix_is_written_once_and_every_bias() -> None:
    model = Two()
    assert set(dense_state(model)) == {"one.weight", "one.bias", "two.bias"}
    assert torch.equal(dense_state(model)["two.bias"], model.two.bias)
    assert set(dense_state(model, {"one"})) == {"one.bias", "two.bias"}
