"""Codes as compressed-tensors packs them: its own reader finds our numbers, and transformers answers as we do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import subjects
import torch
from safetensors.torch import load_file
from spoil import spoil
from torch import Tensor

from trimtab import anatomy, methods
from trimtab.anatomy import tiny
from trimtab.core.errors import Anomaly, Refused
from trimtab.core.factors import LowRank
from trimtab.core.joins import Sum
from trimtab.core.weight import Quantized
from trimtab.export import compressed_tensors
from trimtab.export.deliver import deliver
from trimtab.export.towers import target
from trimtab.load.artifact import read
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune
from untested import need

NAME = "compressed-tensors"
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script:DeprecationWarning"
)  # torch's own, when the engine imports its compiler


@pytest.fixture(autouse=True)
def _engine() -> None:
    need("compressed_tensors")


def random(rows: int, width: int, bits: int, group: int, zeros: bool, dtype: torch.dtype) -> Quantized:
    codes = torch.randint(0, 2**bits, (rows, width), dtype=torch.uint8)
    scale = (torch.rand(rows, width // group) + 0.5).to(dtype)
    zero = torch.randint(0, 2**bits, (rows, width // group), dtype=torch.uint8) if zeros else None
    return Quantized.of(codes, scale, zero, bits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("rows", "width", "group"), [(6, 48, 16), (33, 48, 48), (32, 20, 4)])
@pytest.mark.parametrize("bits", compressed_tensors.BITS)
def test_the_engines_own_reader_finds_our_numbers(
    bits: int, rows: int, width: int, group: int, zeros: bool, dtype: torch.dtype
) -> None:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    w = random(rows, width, bits, group, zeros, dtype)
    config = QuantizationConfig.model_validate(compressed_tensors.described({"a": w}, []))
    reader = BaseCompressor.get_value_from_registry(config.format)
    found = reader.decompress(compressed_tensors.packed(w), config.config_groups["group_0"])
    assert torch.equal(found["weight"], w.dense())


@pytest.mark.parametrize("subject", ["language", "seeing"])
def test_transformers_answers_as_we_do(subject: str, artifacts: Path, tmp_path: Path) -> None:
    found = deliver(artifacts / subject, NAME, tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=1e-5)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert sum(name.endswith("weight_packed") for name in stored) == 14
    assert any("vision_tower" in name for name in stored) is (subject == "seeing")
    assert all(value.dtype == torch.int32 for name, value in stored.items() if name.endswith("weight_packed"))


@pytest.mark.parametrize(("subject", "at"), [("language", "mlp.down_proj"), ("seeing", "self_attn.v_proj")])
def test_a_flipped_byte_does_not_leave(
    subject: str, at: str, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flip(tensors: dict[str, Tensor]) -> None:
        name = next(name for name in tensors if name.endswith(f"layers.1.{at}.weight_packed"))
        tensors[name].view(torch.uint8)[3, 5] ^= 0xFF

    spoil(monkeypatch, compressed_tensors, flip)
    with pytest.raises(Anomaly, match="answers differently"):
        deliver(artifacts / subject, NAME, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def mixed(name: str) -> Any:
    """A grid of its own for every kind of matrix."""
    if "down" in name:
        return RTN(bits=8, group_size=-1, symmetric=True)
    if "lm_head" in name or "multi_modal" in name:
        return RTN(bits=2, group_size=16)
    if "embed" in name:
        return RTN(bits=8, group_size=16)
    return None if "fc1" in name else RTN(bits=4, group_size=32, symmetric="q_proj" in name)


def test_every_grid_is_a_group_and_every_linear_stands_in_one_place(sources: Path, tmp_path: Path) -> None:
    made = subjects.trimmed(sources / "seeing", tmp_path / "artifact", mixed)
    found = deliver(made, NAME, tmp_path / "out")
    assert found.found.equal == 1
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    named = [name for group in config["config_groups"].values() for name in group["targets"]]
    linears = {name for name, _ in read(made, lowered=False).anatomy.linears()} - {
        "model.vision_tower.embeddings.patch_embedding"
    }
    assert sorted(named + config["ignore"]) == sorted(target(name, ("model.vision_tower",)) for name in linears)
    assert {name for name in config["ignore"] if "fc1" not in name} == set()
    grids = {(g["weights"]["num_bits"], g["weights"]["strategy"], g["weights"]["symmetric"]) for g in
             config["config_groups"].values()}  # fmt: skip
    assert grids == {(4, "group", True), (4, "group", False), (8, "channel", True), (2, "group", False)}
    said = " ".join(found.notes)
    assert "model.language_model.embed_tokens" in said
    assert "patch_embedding" in said
    assert "2 bits" in said


def test_shapes_and_dtypes_are_those_of_the_published_layout_and_a_tied_table_is_dense_once(tmp_path: Path) -> None:
    subjects.language(tmp_path / "source", torch.bfloat16, tie_word_embeddings=True)
    made = subjects.trimmed(tmp_path / "source", tmp_path / "artifact", lambda name: RTN(bits=4, group_size=32))
    found = deliver(made, NAME, tmp_path / "out")
    assert found.found.worst < 1e-4  # products rounded to bfloat16 as ours are
    stored = load_file(tmp_path / "out" / "model.safetensors")
    wanted = {"weight_packed": (torch.int32, [128, 8]), "weight_scale": (torch.bfloat16, [128, 2]),
              "weight_shape": (torch.int64, [2]), "weight_zero_point": (torch.int32, [16, 2])}  # fmt: skip
    place = "model.layers.0.mlp.up_proj."
    assert {name.removeprefix(place): (value.dtype, list(value.shape)) for name, value in stored.items()
            if name.startswith(place)} == wanted  # fmt: skip
    assert stored[f"{place}weight_shape"].tolist() == [128, 64]
    assert "model.embed_tokens.weight" in stored
    assert not any(name.startswith("lm_head") for name in stored)
    about = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert about["ignore"] == [target("lm_head", ())]


def summed(w: Any, site: Any) -> Sum:
    grid = RTN(bits=4, group_size=32)(w, site)
    return Sum([grid, LowRank(torch.ones(w.shape[0], 1), torch.ones(1, w.shape[1]), 1.0)])


@pytest.mark.parametrize(
    ("choose", "said"),
    [
        (lambda name: RTN(bits=3, group_size=32), "codes of 3 bits in groups of 32, with zeros.*nearest: 4"),
        (lambda name: methods.make("magnitude", {"pattern": "2:4"}), "masked"),
        (lambda name: summed, r"a sum \(quantized, low_rank\)"),
        (lambda name: None, "no linear of .* is on a grid"),
    ],
)
def test_what_it_cannot_express_is_refused_by_name(choose: Any, said: str, sources: Path, tmp_path: Path) -> None:
    made = subjects.trimmed(
        sources / "language", tmp_path / "artifact", lambda name: choose(name) if "q_proj" in name else None
    )
    with pytest.raises(Refused, match=said):
        deliver(made, NAME, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_policies_are_refused_by_name(sources: Path, tmp_path: Path) -> None:
    made = subjects.trimmed(sources / "seeing", tmp_path / "artifact", subjects.four, [DivPrune(keep=0.5)])
    with pytest.raises(Refused, match="divprune"):
        deliver(made, NAME, tmp_path / "out")


@pytest.mark.parametrize("name", sorted(tiny.MODELS))
def test_the_linears_that_leave_as_codes_are_the_librarys(name: str) -> None:
    from types import SimpleNamespace

    model, _ = tiny.make(name)
    linears = {path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    hosted = anatomy.of(model)
    for _, host in hosted.linears():
        host.w = random(*host.w.shape, 8, host.w.shape[1], False, torch.float32)
    found = compressed_tensors.chosen(SimpleNamespace(anatomy=hosted, library=model))
    assert set(found) <= linears
    assert found
