"""GPTQ's and AWQ's layouts, held against a slow reader of their words and against what the models answer."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import subjects
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

from trimtab.core.errors import Refused
from trimtab.core.factors import Diagonal
from trimtab.core.joins import Chain
from trimtab.core.weight import Quantized
from trimtab.export import awq, decoder, formats, gate, gptq, samples
from trimtab.export.deliver import deliver
from trimtab.load.artifact import read
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune


def random(bits: int, rows: int, width: int, group: int, symmetric: bool, least: int = 0) -> Quantized:
    codes = torch.randint(0, 2**bits, (rows, width), dtype=torch.uint8)
    scale = (torch.rand(rows, width // group) + 0.5).bfloat16()
    zero = None if symmetric else torch.randint(least, 2**bits, (rows, width // group), dtype=torch.uint8)
    return Quantized.of(codes, scale, zero, bits)


def at(words: torch.Tensor, index: int, bits: int) -> int:
    """Number ``index`` of a stream of words, bit by bit."""
    found = 0
    for bit in range(bits):
        place = index * bits + bit
        found |= ((int(words[place // 32]) >> (place % 32)) & 1) << bit
    return found


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("bits", gptq.BITS)
def test_gptqs_words_element_by_element(bits: int, first: bool, symmetric: bool) -> None:
    w = random(bits, 32, 64, 16, symmetric, least=int(first))
    parts, dense = gptq.packed(w, first), w.dense()
    assert parts["qweight"].shape == (64 * bits // 32, 32)
    assert parts["qzeros"].shape == (4, 32 * bits // 32)
    for j, i in torch.randint(0, 32, (60, 2)).tolist():
        group = int(parts["g_idx"][i])
        assert group == i // 16
        code = at(parts["qweight"][:, j], i, bits)
        zero = at(parts["qzeros"][group], j, bits) + first
        assert (code - zero) * parts["scales"][group, j] == dense[j, i]


@pytest.mark.parametrize("symmetric", [True, False])
def test_awqs_words_element_by_element(symmetric: bool) -> None:
    w = random(4, 32, 64, 16, symmetric)
    parts, dense = awq.packed(w), w.dense()
    assert parts["qweight"].shape == (64, 4)
    place = {output: nibble for nibble, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7))}
    for j, i in torch.randint(0, 32, (60, 2)).tolist():
        code = at(parts["qweight"][i], j // 8 * 8 + place[j % 8], 4)
        zero = at(parts["qzeros"][i // 16], j // 8 * 8 + place[j % 8], 4)
        assert (code - zero) * parts["scales"][i // 16, j] == dense[j, i]


def test_a_zero_of_nothing_and_three_bits_take_the_second_version() -> None:
    none, some, three = (random(bits, 32, 64, 16, False, least=1) for bits in (4, 4, 3))
    assert some.zero is not None
    some.zero[3, 2] = 0
    assert gptq.is_first({"a": none})
    assert not gptq.is_first({"a": none, "b": some})
    assert not gptq.is_first({"a": three})
    assert gptq.described({"a": none}, True)["checkpoint_format"] == "gptq"
    assert gptq.described({"a": some}, False)["checkpoint_format"] == "gptq_v2"


@pytest.mark.parametrize("name", ["gptq", "awq"])
@pytest.mark.parametrize("subject", ["language", "seeing"])
def test_read_back_by_hand_it_answers_as_we_do(name: str, subject: str, artifacts: Path, tmp_path: Path) -> None:
    found = deliver(artifacts / subject, name, tmp_path / "out")
    assert found.found.equal == 1
    assert found.found.worst < 1e-3
    assert "layout only" in found.notes[0]
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    beside = {"gptq": "quantize_config.json", "awq": "quant_config.json"}[name]
    assert json.loads((tmp_path / "out" / beside).read_text()) == config
    assert (config["quant_method"], config["bits"], config["group_size"]) == (name, 4, 32)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert sum(key.endswith("qweight") for key in stored) == 14
    assert any("vision_tower" in key for key in stored) is (subject == "seeing")


@pytest.mark.parametrize("module", [gptq, awq])
def test_a_flipped_byte_is_seen(module: Any, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(formats.CHECKS / "shared"))
    import library
    import teacher
    import unpacked

    read_words = runpy.run_path(str(formats.get(module.NAME).check))["read"]
    loaded = read(artifacts / "language", lowered=False)
    module.write(loaded, tmp_path)
    samples.record(loaded, tmp_path / "samples")
    rows = list(teacher.rows(load_numpy(tmp_path / "samples")))

    def near() -> bool:
        answer = library.asked(unpacked.open_dense(tmp_path, read_words))
        return gate.Found(**teacher.compare(answer, rows)).near(exact=True)

    assert near()
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.qweight"].view(torch.uint8)[3, 5] ^= 0xFF
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert not near()


def scaled(w: Any, site: Any) -> Chain:
    """As AWQ leaves it."""
    return Chain([RTN(bits=4, group_size=32)(w, site), Diagonal(torch.full((w.shape[1],), 2.0))])


@pytest.mark.parametrize(
    ("name", "choose", "said"),
    [
        ("awq", lambda name: RTN(bits=3, group_size=32), "codes of 3 bits.*accepted: codes of 4 bits.*--format gptq"),
        ("gptq", lambda name: RTN(bits=4, group_size=32) if "q_proj" in name else None, "k_proj is dense, others are"),
        ("gptq", lambda name: RTN(bits=8 if "down" in name else 4, group_size=32), "down_proj is codes of 8 bits"),
        ("gptq", lambda name: scaled, r"a chain \(quantized, diagonal\)"),
        ("awq", lambda name: None, "no linear of a decoder is on a grid"),
    ],
)
def test_what_they_cannot_express_is_refused_by_name(
    name: str, choose: Any, said: str, sources: Path, tmp_path: Path
) -> None:
    made = subjects.trimmed(
        sources / "language", tmp_path / "artifact", lambda host: choose(host) if "layers" in host else None
    )
    with pytest.raises(Refused, match=said):
        deliver(made, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sizes_that_fill_no_words_and_policies_are_refused(sources: Path, tmp_path: Path) -> None:
    subjects.language(tmp_path / "odd", intermediate_size=132)
    made = subjects.trimmed(
        tmp_path / "odd", tmp_path / "artifact", lambda host: RTN(bits=4, group_size=-1) if "layers" in host else None
    )
    with pytest.raises(Refused, match="132 x 64; accepted: multiples of 8"):
        deliver(made, "gptq", tmp_path / "out")
    kept = subjects.trimmed(sources / "seeing", tmp_path / "kept", subjects.four, [DivPrune(keep=0.5)])
    with pytest.raises(Refused, match="divprune"):
        deliver(kept, "awq", tmp_path / "out")


def test_what_is_dense_is_named(sources: Path, tmp_path: Path) -> None:
    made = subjects.trimmed(sources / "seeing", tmp_path / "artifact", lambda name: RTN(bits=4, group_size=16)
                            if "position" not in name else None)  # fmt: skip
    loaded = read(made, lowered=False)
    awq.refuse(loaded)
    said = decoder.notes(loaded)[1]
    assert all(part in said for part in ("lm_head", "vision_tower", "multi_modal_projector", "embed_tokens"))
    assert "language_model.layers" not in said
    assert set(decoder.dense(loaded)) >= {"lm_head", "model.multi_modal_projector.linear_1"}
