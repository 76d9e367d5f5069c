"""Rounded inputs as compressed-tensors has them: weights byte by byte, and transformers with and without rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import subjects
import torch
from safetensors.torch import load_file
from spoil import spoil
from subjects import sure
from torch import Tensor

from trimtab.core.acts import DynamicInt8
from trimtab.core.errors import Anomaly, Refused
from trimtab.core.factors import Diagonal
from trimtab.core.fit import Site
from trimtab.core.joins import Chain
from trimtab.core.staticacts import StaticInt8
from trimtab.core.weight import Dense
from trimtab.export import compressed_tensors, int8inputs
from trimtab.export.deliver import SAID, deliver
from trimtab.quantize import RTN, W8A8
from untested import need

NAME = "compressed-tensors"
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


@pytest.fixture(autouse=True)
def _engine() -> None:
    need("compressed_tensors")


def of(value: torch.Tensor) -> Any:
    """Its codes of 8 bits."""
    return W8A8()(Dense(value), Site("a", lambda: value))


class Smoothed:
    """Codes with factors on the input, as SmoothQuant's are."""

    acts = DynamicInt8()

    def __call__(self, w: Any, site: Site) -> Chain:
        return Chain([W8A8()(w, site), Diagonal(torch.full((w.shape[1],), 0.5))])


def eight(name: str) -> Any:
    """Rounded inputs in every linear that the library has as one."""
    return None if "embed_tokens" in name or "patch" in name else W8A8()


@pytest.fixture(scope="module")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounded")
    for name, make in (("language", subjects.language), ("seeing", subjects.seeing)):
        subjects.trimmed(sure(make, folder / "sources" / name), folder / name, eight)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_engines_own_reader_finds_our_numbers_and_its_own_rule_chooses_the_format(dtype: torch.dtype) -> None:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.compressors.format import infer_module_format
    from compressed_tensors.quantization import QuantizationConfig

    w = of(torch.randn(10, 24, dtype=dtype))
    config = QuantizationConfig.model_validate(compressed_tensors.described({"a": w}, [], {"a": DynamicInt8()}))
    scheme = config.config_groups["group_0"]
    assert scheme.format == config.format == infer_module_format(torch.nn.Linear, scheme) == int8inputs.FORMAT
    found = BaseCompressor.get_value_from_registry(config.format).decompress(
        int8inputs.octets(w, DynamicInt8()), scheme
    )
    assert torch.equal(found["weight"], w.dense())
    assert {key: (value.dtype, list(value.shape)) for key, value in int8inputs.octets(w, DynamicInt8()).items()} == {
        "weight": (torch.int8, [10, 24]), "weight_scale": (dtype, [10, 1])
    }  # fmt: skip


@pytest.mark.parametrize("subject", ["language", "seeing"])
def test_transformers_answers_as_we_do(subject: str, rounded: Path, tmp_path: Path) -> None:
    found = deliver(rounded / subject, NAME, tmp_path / "out")
    said = json.loads((tmp_path / "out" / SAID).read_text())["checked"]
    assert found.found.equal is not None
    assert found.found.equal >= 0.99
    assert said["worst"] > 1e-5, "the engine rounded inputs, and in its own way"
    assert said["unrounded"]["equal"] == 1
    assert said["unrounded"]["worst"] < 1e-4
    assert said["unrounded"]["reference"] != pytest.approx(said["reference"], rel=1e-5), "so did we"
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert sum(value.dtype == torch.int8 for value in stored.values()) == 15 + 14 * (subject == "seeing")
    assert "127.5" in " ".join(found.notes)


class Fixed:
    """Codes whose input has a fixed grid."""

    acts = StaticInt8(0.25)

    def __call__(self, w: Any, site: Site) -> Any:
        return W8A8()(w, site)


@pytest.mark.parametrize("subject", ["language", "seeing"])
def test_a_fixed_grid_is_the_engines_too(subject: str, tmp_path: Path) -> None:
    source, count = sure(getattr(subjects, subject), tmp_path / "source"), 15 + 14 * (subject == "seeing")
    made = subjects.trimmed(source, tmp_path / "artifact", lambda name: None if eight(name) is None else Fixed())
    found = deliver(made, NAME, tmp_path / "out")
    said = json.loads((tmp_path / "out" / SAID).read_text())["checked"]
    assert found.found.equal == 1
    near = 2e-3 if subject == "seeing" else 1e-4  # the engine clips at -128, and a picture's inputs reach that far
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=near)
    assert said["unrounded"]["reference"] != pytest.approx(said["reference"], rel=1e-4)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    scales = [value for name, value in stored.items() if name.endswith("input_scale")]
    assert [value.tolist() for value in scales] == [[0.25]] * count
    (group,) = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"][
        "config_groups"
    ].values()
    assert (group["input_activations"]["dynamic"], group["input_activations"]["strategy"]) == (False, "tensor")
    assert f"{count} linears are rounded by the engine, {count} of them on a fixed grid. Without" in " ".join(
        found.notes
    )


def test_a_flipped_byte_does_not_leave_though_rounding_would_hide_it(
    rounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flip(tensors: dict[str, Tensor]) -> None:
        next(value for name, value in tensors.items() if name.endswith("layers.1.mlp.down_proj.weight"))[3, 5] ^= 0x7F

    spoil(monkeypatch, compressed_tensors, flip)
    with pytest.raises(Anomaly, match="answers differently"):
        deliver(rounded / "language", NAME, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def mixed(name: str) -> Any:
    """Codes with rounded inputs, codes without, and dense."""
    if "down" in name or "fc2" in name:
        return W8A8()
    return RTN(bits=4, group_size=32, symmetric=True) if "up" in name else None


def test_forms_stand_beside_each_other_in_sixteen_bits(tmp_path: Path) -> None:
    source = sure(subjects.seeing, tmp_path / "source", dtype=torch.bfloat16)
    made = subjects.trimmed(source, tmp_path / "artifact", mixed)
    deliver(made, NAME, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert config["format"] == "mixed-precision"
    found = {group["format"]: group for group in config["config_groups"].values()}
    assert set(found) == {"pack-quantized", "int-quantized"}
    assert all("up_proj" in name for name in found["pack-quantized"]["targets"])
    assert found["pack-quantized"]["input_activations"] is None
    assert found["int-quantized"]["input_activations"]["strategy"] == "token"


@pytest.mark.parametrize(
    ("subject", "choose", "tied", "said"),
    [
        ("language", lambda name: W8A8(), True, "lm_head.*word table too"),
        ("language", lambda name: Smoothed(), False, r"chain \(quantized, diagonal\).*nearest: w8a8"),
        ("seeing", lambda name: W8A8(), False, r"patch_embedding .*ignore: \[patch_embedding\]"),
    ],
)
def test_what_it_cannot_express_is_refused_by_name(
    subject: str, choose: Any, tied: bool, said: str, tmp_path: Path
) -> None:
    if subject == "language":
        subjects.language(tmp_path / "source", tie_word_embeddings=tied)
    else:
        subjects.seeing(tmp_path / "source")
    made = subjects.trimmed(tmp_path / "source", tmp_path / "artifact", lambda name: choose(name))
    with pytest.raises(Refused, match=said):
        deliver(made, NAME, tmp_path / "out")
    assert not (tmp_path / "out").exists()
