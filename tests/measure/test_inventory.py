"""Numbers and bytes module by module: they sum to the totals, and to what a checkpoint's tensors take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab import anatomy
from trimtab.core.joins import Sum
from trimtab.core.linear import Embedding, Linear
from trimtab.core.sparse import Masked
from trimtab.core.weight import Dense, Quantized
from trimtab.measure.inventory import inventory, totals
from trimtab.measure.params import parameters, stored


def quantized(rows: int, width: int, bits: int = 4) -> Quantized:
    codes = torch.randint(0, 2**bits, (rows, width), dtype=torch.uint8)
    scale = torch.rand(rows, width // 32).bfloat16()
    return Quantized.of(codes, scale, torch.zeros(rows, width // 32, dtype=torch.uint8), bits)


def llama(tied: bool) -> LlamaForCausalLM:
    config = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied)  # fmt: skip
    return LlamaForCausalLM(config)


def compressed() -> nn.Module:
    shared = quantized(8, 64)
    value = nn.Parameter(torch.randn(8, 64).bfloat16())
    return nn.ModuleDict({
        "words": Embedding(shared, "words"), "head": Linear(shared, None, "head"),
        "three": Linear(quantized(16, 32, 3), nn.Parameter(torch.zeros(16)), "three"),
        "sum": Linear(Sum([Dense(value), quantized(8, 64)]), None, "sum"),
        "tied": Linear(Dense(value), None, "tied"), "norm": nn.BatchNorm1d(8),
    })  # fmt: skip


MODELS: dict[str, Any] = {
    "plain": lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), "tied": lambda: llama(True),
    "untied": lambda: llama(False), "compressed": compressed, "half": lambda: llama(True).bfloat16(),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_modules_sum_to_the_whole(name: str) -> None:
    net = MODELS[name]()
    rows = inventory(net)
    whole = totals(rows)[""]
    assert whole.numbers == parameters(net)
    assert whole.stored == stored(net)
    assert len({one.path for one in rows}) == len(rows)


@pytest.mark.parametrize("name", MODELS)
def test_bytes_are_those_of_the_files_tensors(name: str, tmp_path: Path) -> None:
    """What safetensors writes of each tensor once, read from its header."""
    net, unique = MODELS[name](), {}
    for key, value in net.state_dict().items():
        unique.setdefault((value.data_ptr(), value.shape, value.dtype), (key, value.contiguous()))
    save_file(dict(unique.values()), tmp_path / "model.safetensors")
    raw = (tmp_path / "model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    spans = [entry["data_offsets"] for key, entry in header.items() if key != "__metadata__"]
    assert sum(end - begin for begin, end in spans) == totals(inventory(net))[""].stored == len(raw) - 8 - size


def test_a_tied_table_is_the_first_ones_and_rotary_frequencies_are_not_saved() -> None:
    rows = {one.path: one for one in inventory(llama(True))}
    assert rows["model.embed_tokens"].numbers == 50 * 16
    assert "lm_head" not in rows
    assert not any("rotary" in path for path in rows)
    assert {one.path: one.numbers for one in inventory(llama(False))}["lm_head"] == 50 * 16


def test_buffers_are_apart_and_so_is_what_is_trained() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    net[0].weight.requires_grad_(False)
    linear, norm = inventory(net)
    assert (linear.numbers, linear.trained, linear.buffers) == (28, 4, 0)
    assert (norm.numbers, norm.trained, norm.buffers, norm.bytes) == (8, 8, 2 * 16 + 8, {"float32": 64, "int64": 8})
    assert (norm.kind, norm.path) == ("BatchNorm1d", "1")


def test_codes_scales_zeros_and_masks_are_bytes_and_weights_are_numbers() -> None:
    rows = {one.path: one for one in inventory(nn.ModuleDict({"a": Linear(quantized(8, 64), None, "a")}))}
    assert [one.numbers for one in rows.values()] == [8 * 64]
    held = totals(rows.values())[""].bytes
    assert held == {"uint8": 8 * 64 // 2 + 8 * 2, "bfloat16": 8 * 2 * 2}
    pruned = Masked.of(torch.randn(8, 64), torch.arange(64).repeat(8, 1) % 2 == 0)
    found = totals(inventory(nn.ModuleDict({"a": Linear(pruned, None, "a")})))[""]
    assert found.numbers == 8 * 64
    assert found.bytes == {"float32": 4 * 8 * 32, "uint8": 8 * 64 // 8}


def test_parts_are_summed_by_what_is_said_of_paths() -> None:
    net = llama(False)
    known = anatomy.of(net)

    def part(path: str) -> str:
        return known.part_of(path)

    rows = [one for one in inventory(net) if "norm" not in one.path]
    found = totals(rows, part)
    assert set(found) == {"embedding", "head", "language"}
    assert found["head"].numbers == found["embedding"].numbers == 800
    assert sum(one.numbers for one in found.values()) + 5 * 16 == parameters(net)


def test_on_meta_nothing_is_confused() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False))
    assert [one.numbers for one in inventory(net)] == [100, 100]
    assert totals(inventory(net))[""].bytes == {"float32": 800}
