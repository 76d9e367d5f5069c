"""An artifact whose linears round their inputs says so, comes back rounding, and can be nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from trimtab import gate
from trimtab.core.acts import DynamicInt8
from trimtab.core.errors import BadInput, Refused
from trimtab.core.fit import Site
from trimtab.core.staticacts import StaticInt8
from trimtab.export.deliver import deliver
from trimtab.load import Loaded, artifact, open_source
from trimtab.load.hashing import content_hash
from trimtab.load.manifest import read_manifest
from trimtab.quantize import W8A8


@pytest.fixture(scope="module")
def trimmed(llava_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, Path]:
    loaded, folder = open_source(llava_folder), tmp_path_factory.mktemp("rounded") / "out"
    for name, host in loaded.anatomy.linears():
        if "language" in name:
            host.w, host.acts = W8A8()(host.w, Site(name, host.w.dense)), DynamicInt8()
    loaded.lower()
    artifact.write(folder, loaded, {})
    return loaded, folder


def test_the_artifact_says_so_and_comes_back_rounding(trimmed: Any) -> None:
    loaded, folder = trimmed
    said = read_manifest(folder)
    rounded = {name for name, host in loaded.anatomy.linears() if host.acts is not None}
    assert said.activations == {name: {"kind": "dynamic_int8", "version": 1} for name in rounded}
    assert rounded
    again = open_source(folder)
    assert {name for name, host in again.anatomy.linears() if host.acts is not None} == rounded
    assert set(again.kernels.kernels.values()) == {"int8 x int8"}
    assert gate.check(folder).passed
    plain = said.model_copy(update={"activations": {}}).model_dump(mode="json")
    assert content_hash(folder, plain) != said.content_hash, "the hash covers it"


def test_what_is_no_rounding_known_or_stands_where_none_can_is_refused_by_name(trimmed: Any, tmp_path: Path) -> None:
    loaded, folder = trimmed
    rounded, dense = (next(name for name, host in loaded.anatomy.linears() if (host.acts is None) == plain)
                      for plain in (False, True))  # fmt: skip
    right = DynamicInt8().spec()
    shutil.copytree(folder, tmp_path / "copy")
    for name, spec, says in (
        (rounded, {"kind": "static_int4", "version": 1}, "activation spec: got kind 'static_int4'"),
        (rounded, {"kind": "static_int8", "version": 1}, "got the scale None; accepted: a number above 0"),
        (rounded, {"kind": "static_int8", "version": 1, "scale": 0.0}, "got the scale 0.0"),
        (rounded, {**right, "version": 9}, "version 9"),
        (dense, right, "inputs in 8 bits: got a Dense"),
        ("nowhere", right, "the model has no such linear"),
    ):
        said = json.loads((folder / "trimtab.json").read_text())
        said["activations"][name] = spec
        (tmp_path / "copy" / "trimtab.json").write_text(json.dumps(said))
        with pytest.raises(BadInput, match=f"activations.{name}: .*{says}"):
            artifact.read(tmp_path / "copy", verify=False)


def test_a_plain_folder_cannot_say_it(trimmed: Any, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="round their input to 8 bits"):
        deliver(trimmed[1], "dense", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_an_artifact_comes_back_with_its_scales_on_the_integer_kernel(llava_folder: Path, tmp_path: Path) -> None:
    loaded = open_source(llava_folder)
    for number, (name, host) in enumerate(loaded.anatomy.linears()):
        if "language" in name:
            host.w, host.acts = W8A8()(host.w, Site(name, host.w.dense)), StaticInt8(float(torch.tensor(0.01 + number)))
    loaded.lower()
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out")
    assert {path: host.acts for path, host in again.anatomy.linears()} == {
        path: host.acts for path, host in loaded.anatomy.linears()
    }
    assert set(again.kernels.kernels.values()) == {"int8 x int8"}
    assert gate.check(tmp_path / "out").passed
