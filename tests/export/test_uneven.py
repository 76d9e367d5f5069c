"""What is no plain grid, uneven levels and scaled inputs: refused by name where it has no place, the same numbers where
it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import subjects
import torch

from trimtab.core.blocks import Blocks
from trimtab.core.codebook import Codebook
from trimtab.core.errors import Refused
from trimtab.core.fit import Site
from trimtab.core.joins import leaves
from trimtab.core.stats import Gram
from trimtab.core.weight import Dense
from trimtab.export import formats
from trimtab.export.deliver import deliver
from trimtab.export.graph.forms import PACKAGES
from trimtab.load import Loaded, artifact, open_source
from trimtab.load.artifact import read
from trimtab.quantize import AWQ, FP4, MRGPTQ, NF4, RTN
from trimtab.run.walk import walk
from untested import need

NEEDED = {"gguf": ("gguf",), "onnx": PACKAGES, "openvino": PACKAGES}
"""To write, by format."""
LEVELS = {"q_proj": NF4(32), "k_proj": FP4("mxfp4"), "v_proj": FP4("nvfp4"), "o_proj": MRGPTQ(rotate=32)}
LAYER = "model.layers.1.self_attn"


def uneven(name: str) -> Any:
    """A kind of levels for every matrix of the attention."""
    method = LEVELS.get(name.rpartition(".")[2])
    return None if method is None else lambda w, site: method(w, seen(w, site))


def seen(w: Any, site: Site) -> Site:
    gram = Gram(w.shape[1])
    gram.add(torch.randn(128, w.shape[1]), torch.zeros(128, dtype=torch.int64))
    return Site(site.name, site.source, gram)


@pytest.fixture(scope="module")
def levels(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return subjects.trimmed(sources / "language", tmp_path_factory.mktemp("levels") / "made", uneven)


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("name", [name for name in formats.FORMATS if name != "dense"])
def test_uneven_levels_are_refused_by_name_with_the_nearest_form(name: str, kind: str, levels: Path) -> None:
    """NF4, MXFP4, NVFP4 and rotated NVFP4, the only matrix that is not dense."""
    for package in NEEDED.get(name, ()):
        need(package)
    loaded = read(levels, lowered=False)
    hosts = dict(artifact.hosts(loaded.anatomy))
    for other, host in hosts.items():
        host.w = host.w if other == f"{LAYER}.{kind}" else Dense(host.w.dense().detach())
    with pytest.raises(Refused) as caught:
        formats.get(name).load().refuse(loaded)
    said = str(caught.value)
    assert f"layers.1.self_attn.{kind}" in said
    assert "--format dense" in said.partition("nearest: ")[2]
    assert "codebook" in said or "levels in groups of" in said
    assert "gptq or rtn" in said
    assert name in ("onnx", "openvino") or "uneven levels" in said


def test_dense_they_leave_value_for_value(levels: Path, tmp_path: Path) -> None:
    loaded, kinds = read(levels, lowered=False), list[type]()
    dense = formats.get("dense").load()
    dense.refuse(loaded)
    dense.write(loaded, tmp_path)
    theirs = dict(open_source(tmp_path).anatomy.linears())
    for name, host in loaded.anatomy.linears():
        assert torch.equal(theirs[name].w.dense(), host.w.dense()), name
        kinds += [type(leaf) for leaf in leaves(host.w) if type(leaf) is not Dense]
    assert (kinds.count(Codebook), kinds.count(Blocks)) == (8, 2)


@pytest.mark.parametrize("name", [name for name in formats.FORMATS if name != "dense"])
def test_a_rotated_grid_is_refused_by_name_with_the_nearest_form(name: str, sources: Path) -> None:
    for package in NEEDED.get(name, ()):
        need(package)
    loaded = open_source(sources / "language")
    host = dict(artifact.hosts(loaded.anatomy))[f"{LAYER}.q_proj"]
    host.w = RTN(4, 32, rotate=32)(host.w, Site(LAYER, host.w.dense))
    with pytest.raises(Refused) as caught:
        formats.get(name).load().refuse(loaded)
    said = str(caught.value)
    assert "layers.1.self_attn.q_proj" in said
    assert "rotate: 0" in said.partition("nearest: ")[2]


@pytest.fixture(scope="module")
def scaled(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Read back after AWQ itself has fitted it."""
    loaded, folder = open_source(sources / "language"), tmp_path_factory.mktemp("scaled") / "made"
    ids = torch.randint(4, 60, (4, 32), generator=torch.Generator().manual_seed(0))
    walk(loaded.anatomy, [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}], AWQ(4, 32), ["language"])
    artifact.write(folder, loaded, {})
    return read(folder, lowered=False)


@pytest.mark.parametrize("name", ["awq", "gptq", "compressed-tensors", "gguf"])
def test_what_awq_leaves_is_refused_even_by_awqs_layout_and_the_reason_is_said(name: str, scaled: Loaded) -> None:
    for package in NEEDED.get(name, ()):
        need(package)
    with pytest.raises(Refused) as caught:
        formats.get(name).load().refuse(scaled)
    said = str(caught.value)
    assert "layers.0.self_attn.q_proj" in said
    if name == "gguf":
        assert "nearest: gptq or rtn with the same bits and group_size" in said
        return
    assert "with a factor for each input beside the codes" in said
    assert "nearest: --format onnx or openvino" in said
    assert "accepted: codes of" in said


@pytest.mark.parametrize("name", ["onnx", "openvino", "dense"])
def test_what_was_named_as_nearest_takes_it(name: str, scaled: Loaded, tmp_path: Path) -> None:
    """Written and answered as the artifact is, by the engine in a process of its own."""
    for package in NEEDED.get(name, ()):
        need(package)
    assert scaled.source.folder is not None
    made = deliver(scaled.source.folder, name, tmp_path / "out")
    assert made.found.equal == 1
    assert made.bytes > 0
