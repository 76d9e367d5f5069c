"""OpenVINO folders: compressed weights, a cache of their own, openvino in a process of its own, openvino-genai here."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from everyform import stored
from PIL import Image
from spoil import turn_over

from trimtab.core.errors import Anomaly
from trimtab.export import formats, gate, samples
from trimtab.export.deliver import deliver
from trimtab.load.artifact import read
from untested import need

CHECK = formats.FORMATS["openvino"].check
OPTIONS = {"max_new_tokens": 12, "ignore_eos": True, "apply_chat_template": False}


def constants(xml: Path) -> Counter[str]:
    """Numbers stored in each element type."""
    found: Counter[str] = Counter()
    for layer in ElementTree.parse(xml).getroot().iter("layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            shape = [int(part) for part in str(data.get("shape")).replace(" ", "").split(",") if part]
            found[str(data.get("element_type"))] += int(np.prod(shape))
    return found


def test_weights_stay_compressed_and_a_changed_code_does_not_pass(rich: Path, tmp_path: Path) -> None:
    need("openvino")
    found = deliver(rich, "openvino", tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=1e-5)
    numbers = constants(tmp_path / "out" / "openvino_model.xml")
    assert numbers["f32"] < 2048  # norms, angles and small change: no matrix
    assert numbers["u4"] > numbers["i4"] > 10_000
    assert numbers["i8"] == 2 * 64 * 64  # what has 8 bits and no zeros
    data = tmp_path / "out" / "openvino_model.bin"
    assert stored(rich) <= data.stat().st_size <= stored(rich) + 8192
    recorded, loaded = tmp_path / "samples", read(rich, lowered=False)
    samples.record(loaded, recorded)
    _speaks(tmp_path / "out", loaded)
    raw = bytearray(data.read_bytes())
    raw[len(raw) // 4] ^= 0x88
    data.write_bytes(raw)
    with pytest.raises(Anomaly, match="answers differently"):
        gate.judge(CHECK, tmp_path / "out", recorded)


def test_every_grid_arrives_in_tower_and_projector_too_and_a_changed_code_does_not_pass(
    watching: Path, tmp_path: Path
) -> None:
    need("openvino")
    found = deliver(watching, "openvino", tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=1e-5)
    tower = constants(tmp_path / "out" / "openvino_vision_embeddings_model.xml")
    assert tower["f32"] < 8192  # the patch convolution, norms, biases and positions; a matrix more would be 9,986
    assert tower["u4"] > 10_000
    assert tower["i8"] == 2 * 64 * 64  # the queries of both layers
    recorded = tmp_path / "samples"
    samples.record(read(watching, lowered=False), recorded)
    data = tmp_path / "out" / "openvino_vision_embeddings_model.bin"
    raw = data.read_bytes()
    turn_over(data, raw, len(raw) // 2)
    with pytest.raises(Anomaly, match="answers differently"):
        gate.judge(CHECK, tmp_path / "out", recorded)


def _speaks(folder: Path, loaded: Any) -> None:
    """openvino-genai goes on as ours does, the cache its own."""
    need("openvino_genai")
    import openvino_genai as genai

    pipe = genai.LLMPipeline(folder, "CPU", EXECUTION_MODE_HINT="ACCURACY")
    theirs = pipe.generate("the quick brown fox", genai.GenerationConfig(**OPTIONS))
    given = loaded.tokenizer("the quick brown fox", return_tensors="pt")
    assert theirs == _ours(loaded, given)


def _ours(loaded: Any, given: Any) -> str:
    """The greedy continuation."""
    with torch.no_grad():
        found = loaded.library.float().generate(**given, max_new_tokens=12, do_sample=False, eos_token_id=None)
    said: str = loaded.tokenizer.decode(found[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    assert len(said.split()) > 4
    return said


def test_genai_sees(artifacts: Path, tmp_path: Path) -> None:
    need("openvino_genai")
    import openvino as ov
    import openvino_genai as genai

    loaded = read(artifacts / "seeing", lowered=False)
    found = deliver(artifacts / "seeing", "openvino", tmp_path / "out")
    assert found.found.equal == 1
    assert not any("tokenizer" in note for note in found.notes)
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    pipe = genai.VLMPipeline(tmp_path / "out", "CPU", EXECUTION_MODE_HINT="ACCURACY")
    theirs = pipe.generate("what is it", images=[ov.Tensor(picture[None])],
                           generation_config=genai.GenerationConfig(**OPTIONS)).texts[0]  # fmt: skip
    given = loaded.processor(text="<image>\nwhat is it", images=[Image.fromarray(picture)], return_tensors="pt")
    assert theirs == _ours(loaded, given)
