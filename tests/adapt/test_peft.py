"""PEFT is the oracle: it loads what we write, and we load what it writes, with the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft as oracle
import pytest
import torch
from torch import Tensor, nn

from trimtab import anatomy
from trimtab.adapt import peft
from trimtab.adapt.load import LoadAdapter
from trimtab.anatomy import tiny
from trimtab.core.errors import BadInput, Refused
from trimtab.core.factors import LowRank
from trimtab.run.adapt import fitting

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # PEFT's own call

NAMES = {
    "llama": [f"model.layers.{i}.{part}" for i in (0, 2) for part in ("self_attn.q_proj", "mlp.down_proj")],
    "llava": [
        "model.language_model.layers.1.self_attn.v_proj",
        "model.multi_modal_projector.linear_1",
        "model.vision_tower.encoder.layers.0.mlp.fc1",
    ],
}


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**batch).logits
    return found[batch["attention_mask"].bool()]


def close(found: Tensor, wanted: Tensor) -> None:
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_loads_what_we_write(name: str, rslora: bool, tmp_path: Path) -> None:
    model, batch = tiny.make(name)
    plain = logits(model, batch)
    alpha, r = 12.0, 4
    scale = alpha / (r**0.5 if rslora else r)
    shapes = {path: tuple(model.get_submodule(path).weight.shape) for path in NAMES[name]}
    lows = {
        path: LowRank(torch.randn(out, r), torch.randn(r, width) / 8, scale) for path, (out, width) in shapes.items()
    }
    peft.write(tmp_path / "adapter", lows, "base", alpha, rslora)
    theirs = oracle.PeftModel.from_pretrained(tiny.make(name)[0], tmp_path / "adapter")
    wanted = logits(theirs, batch)
    assert (wanted - plain).abs().max() > 0.05 * plain.abs().max()
    linears = dict(anatomy.of(model).linears())
    for path, adapter in peft.read(tmp_path / "adapter").items():
        linears[path].w = adapter.beside(linears[path].w)
    close(logits(model, batch), wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_we_load_what_peft_writes(name: str, kind: str, tmp_path: Path) -> None:
    base, batch = tiny.make(name)
    config = oracle.LoraConfig(
        r=4, lora_alpha=6, target_modules=NAMES[name], use_rslora=kind == "rslora", use_dora=kind == "dora",
        init_lora_weights=False,
    )  # fmt: skip
    torch.manual_seed(1)
    theirs = oracle.get_peft_model(base, config)
    for key, value in theirs.named_parameters():
        if "magnitude" in key:
            nn.init.uniform_(value, 0.5, 2.0)
    theirs.eval().save_pretrained(tmp_path / "adapter")
    wanted = logits(theirs, batch)
    model, _ = tiny.make(name)
    plain = logits(model, batch)
    linears = dict(anatomy.of(model).linears())
    found = LoadAdapter(str(tmp_path / "adapter")).adapters()
    assert sorted(found) == sorted(NAMES[name])
    assert all((one.magnitude is not None) == (kind == "dora") for one in found.values())
    for path, adapter in fitting(found, linears, "adapter").items():
        linears[path].w = adapter.beside(linears[path].w)
    close(logits(model, batch), wanted)
    assert (wanted - plain).abs().max() > 0.05 * plain.abs().max()


def written(folder: Path) -> Path:
    low = LowRank(torch.randn(32, 2), torch.randn(2, 32))
    peft.write(folder, {"model.layers.0.self_attn.q_proj": low}, "base", 2.0, False)
    return folder


def test_an_adapter_of_another_base_is_refused_by_name(tmp_path: Path) -> None:
    found = peft.read(written(tmp_path))
    linears = dict(anatomy.of(tiny.make("llava")[0]).linears())
    with pytest.raises(
        BadInput, match=r"'model\.layers\.0\.self_attn\.q_proj', which this model does not have.*nearest"
    ):
        fitting(found, linears, "adapter")
    linears = dict(anatomy.of(tiny.make("llama")[0]).linears())
    assert fitting(found, linears, "adapter") is found
    narrow = {"model.layers.0.self_attn.k_proj": found["model.layers.0.self_attn.q_proj"]}
    with pytest.raises(BadInput, match=r"k_proj is \[32, 32\] there and \[16, 32\] in this model"):
        fitting(narrow, linears, "adapter")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type: got 'IA3'; accepted: 'LORA'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out: got True"),
        ({"bias": "all"}, "bias: got 'all'"),
    ],
)
def test_what_is_more_than_low_rank_is_refused_by_its_key(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = written(tmp_path)
    config = json.loads((folder / peft.CONFIG).read_text())
    (folder / peft.CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(BadInput, match=said):
        peft.read(folder)


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"adapter_config\.json: no such file"):
        peft.read(tmp_path)
    folder = written(tmp_path / "cut")
    path = folder / peft.TENSORS
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadInput, match="corrupt or truncated"):
        peft.read(folder)
    path.unlink()
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(Refused, match=r"adapter_model\.bin: a pickle"):
        peft.read(folder)


def test_alpha_may_differ_by_layer(tmp_path: Path) -> None:
    folder = written(tmp_path)
    config = json.loads((folder / peft.CONFIG).read_text())
    (folder / peft.CONFIG).write_text(json.dumps(config | {"alpha_pattern": {"q_proj": 10}}))
    (one,) = peft.read(folder).values()
    assert one.low.scale == 5.0
