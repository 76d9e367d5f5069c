"""ONNX folders: our codes in them, onnxruntime answering in a process of its own, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import subjects
import torch
from everyform import PROJECTOR, TOWER, patches, stored
from spoil import turn_over
from transformers import BertConfig, BertModel

from trimtab.core.errors import Anomaly, Refused
from trimtab.core.factors import LowRank
from trimtab.core.joins import Sum
from trimtab.core.pack import pack, unpack
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized
from trimtab.export import formats, gate, samples
from trimtab.export.deliver import deliver
from trimtab.export.integers import codes_of, narrow, packed
from trimtab.load import artifact
from trimtab.load.artifact import read
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune
from untested import need

CHECK = formats.FORMATS["onnx"].check


def test_every_grid_arrives_as_it_is_and_a_changed_code_does_not_pass(rich: Path, tmp_path: Path) -> None:
    need("onnxruntime")
    found = deliver(rich, "onnx", tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=1e-5)
    assert any("2 of 2 bits and 2 of 3 bits" in note for note in found.notes)
    data = tmp_path / "out" / "model.onnx_data"
    claim = stored(rich)
    assert claim <= data.stat().st_size <= claim + 64 * 80 + 4096  # alignment; the table's zeros in both forms
    recorded = tmp_path / "samples"
    samples.record(read(rich, lowered=False), recorded)
    assert gate.judge(CHECK, tmp_path / "out", recorded).equal == 1
    raw = bytearray(data.read_bytes())
    place = raw.index(codes_of_first(rich))
    raw[place] ^= 0x88  # the high bit of two codes
    data.write_bytes(raw)
    with pytest.raises(Anomaly, match="answers differently"):
        gate.judge(CHECK, tmp_path / "out", recorded)


def codes_of_first(folder: Path, name: str = "model.layers.0.self_attn.o_proj") -> bytes:
    """The first bytes of the codes of a matrix, as they stand in the file."""
    hosts = dict(artifact.hosts(read(folder, lowered=False).anatomy))
    codes = codes_of(hosts[name].w)
    return packed(np.ascontiguousarray(codes.codes.T), codes.bits).tobytes()[:64]


def test_a_seeing_model_keeps_its_eyes(artifacts: Path, tmp_path: Path) -> None:
    need("onnxruntime")
    found = deliver(artifacts / "seeing", "onnx", tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=1e-5)
    names = {path.name for path in (tmp_path / "out").glob("*.onnx*")}
    assert names == {"vision_encoder.onnx", "embed_tokens.onnx", "decoder.onnx", "model.onnx_data"}
    said = b"".join(path.read_bytes() for path in (tmp_path / "out").glob("*.onnx"))
    assert b"site-packages" not in said  # nor anything else of where the exporter's code lies
    assert str(Path(__file__).parents[2]).encode() not in said


def test_every_grid_arrives_in_tower_and_projector_too_and_a_changed_code_does_not_pass(
    watching: Path, tmp_path: Path
) -> None:
    need("onnxruntime")
    found = deliver(watching, "onnx", tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.perplexity == pytest.approx(found.found.reference, rel=1e-5)
    data = tmp_path / "out" / "model.onnx_data"
    claim = stored(watching)
    assert claim <= data.stat().st_size <= claim + patches(watching) + 64 * 160 + 4096
    recorded, raw = tmp_path / "samples", data.read_bytes()
    samples.record(read(watching, lowered=False), recorded)
    assert gate.judge(CHECK, tmp_path / "out", recorded).equal == 1
    for name in (TOWER, PROJECTOR):
        turn_over(data, raw, raw.index(codes_of_first(watching, name)))
        with pytest.raises(Anomaly, match="answers differently"):
            gate.judge(CHECK, tmp_path / "out", recorded)


def test_an_encoder_is_held_by_its_hidden_states(tmp_path: Path) -> None:
    need("onnxruntime")
    config = BertConfig(**subjects.WIDTH, vocab_size=64, max_position_embeddings=512, pad_token_id=0)
    subjects.save(BertModel(config), subjects.letters(), tmp_path / "source", torch.float32)
    subjects.trimmed(tmp_path / "source", tmp_path / "bert", lambda name: RTN(bits=8, group_size=64))
    found = deliver(tmp_path / "bert", "onnx", tmp_path / "out").found
    assert found.cosine is not None
    assert found.cosine > 1 - 1e-6


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_what_a_graph_cannot_hold_is_refused_by_name(name: str, artifacts: Path, tmp_path: Path) -> None:
    writer = formats.get(name).load()
    loaded = read(artifacts / "seeing", lowered=False)
    hosts = dict(artifact.hosts(loaded.anatomy))
    hosts["lm_head"].w = Masked.of(torch.randn(64, 64), torch.rand(64, 64) > 0.5)
    with pytest.raises(Refused, match=r"lm_head: got a masked matrix; .*nearest: --format dense"):
        writer.refuse(loaded)
    hosts["lm_head"].w = Sum([Dense(torch.randn(64, 64)), Masked.of(torch.randn(64, 64), torch.rand(64, 64) > 0.5)])
    with pytest.raises(Refused, match="lm_head: got a masked matrix"):
        writer.refuse(loaded)
    hosts["lm_head"].w = Dense(torch.randn(64, 64))
    writer.refuse(loaded)
    table = hosts["model.language_model.embed_tokens"]
    table.w = Sum([table.w, LowRank(torch.randn(64, 2), torch.randn(2, 64))])
    with pytest.raises(Refused, match=r"embed_tokens: got a word table that is a sum \(dense, low_rank\)"):
        writer.refuse(loaded)
    loaded.policies = [DivPrune(keep=0.5)]
    with pytest.raises(Refused, match="divprune"):
        writer.refuse(loaded)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_other_architectures_and_missing_packages_are_refused(
    name: str, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = formats.get(name).load()
    loaded = read(artifacts / "language", lowered=False)
    loaded.library.config.model_type = "qwen2_vl"
    with pytest.raises(Refused, match=r"'qwen2_vl' \(nearest: 'qwen2'\); accepted: bert, clip, gemma3_text"):
        writer.refuse(loaded)
    monkeypatch.setattr("trimtab.export.graph.forms.PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(Refused, match=rf"needs no_such_package; next: pip install 'trimtab\[{name}\]'"):
        writer.refuse(loaded)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_in_containers_are_the_same_numbers(bits: int, symmetric: bool) -> None:
    torch.manual_seed(bits)
    groups = torch.randint(0, 2**bits, (6, 4), dtype=torch.uint8)
    plain = torch.randint(0, 2**bits, (6, 32), dtype=torch.uint8)
    w = Quantized(pack(plain, bits), torch.rand(6, 4) + 0.5, None if symmetric else groups, bits, 8)
    found = codes_of(w)
    assert found.bits == (8 if bits == 8 else 4)
    octets = packed(found.codes, found.bits).tolist()
    numbers = [part for one in octets for part in ([one] if bits == 8 else [one % 16, one // 16])]
    if symmetric:
        assert found.zero is None
        numbers = [one - 2**found.bits if one >= 2 ** (found.bits - 1) else one for one in numbers]
    zero = np.zeros((6, 4)) if found.zero is None else found.zero.astype(np.float64)
    values = (np.array(numbers, np.float64).reshape(6, 4, 8) - zero[..., None]) * found.scale.double().numpy()[
        ..., None
    ]
    assert np.allclose(values.reshape(6, 32), w.dense().double().numpy(), atol=1e-6)
    assert np.array_equal(unpack(w.codes, bits).numpy(), plain.numpy())


def test_sixteen_bits_only_where_they_hold_every_number() -> None:
    value = torch.tensor([1.0, 2.0**-20, 3.0e38])
    assert narrow(value.bfloat16().float()) == torch.bfloat16
    assert narrow(torch.tensor([1.0009765625, 0.5])) == torch.float16
    assert narrow(torch.tensor([1.0009765625, 2.0**-30])) == torch.float32
    assert narrow(torch.tensor([0.1])) == torch.float32
