"""Numbers and bytes, with shared tensors once."""

from __future__ import annotations

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab.core.linear import Embedding, Linear
from trimtab.core.weight import Dense, Quantized, bits
from trimtab.measure.params import parameters, readings, stored, stored16


def _quantized(rows: int, width: int) -> Quantized:
    codes = torch.randint(0, 16, (rows, width), dtype=torch.uint8)
    scale = torch.rand(rows, width // 32).bfloat16()
    return Quantized.of(codes, scale, torch.zeros(rows, width // 32, dtype=torch.uint8), 4)


def test_a_plain_model() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))
    assert parameters(net) == 6 * 4 + 4 + 4 + 4
    assert stored(net) == 4 * parameters(net)
    assert stored(net.bfloat16()) == stored16(net) == 2 * 36


def test_tied_words_count_once() -> None:
    config = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True)  # fmt: skip
    net = LlamaForCausalLM(config)
    assert parameters(net) == sum(one.numel() for one in net.parameters())
    assert stored(net) == 4 * parameters(net)  # inv_freq is not saved
    untied = LlamaForCausalLM(LlamaConfig(**(config.to_dict() | {"tie_word_embeddings": False})))
    assert parameters(untied) == parameters(net) + 50 * 16


def test_quantized_hosts() -> None:
    w = _quantized(8, 64)
    net = nn.ModuleList([Linear(w, nn.Parameter(torch.zeros(8)), "a"), Embedding(w, "b"), nn.LayerNorm(4)])
    assert parameters(net) == 8 * 64 + 8 + 8
    assert stored(net) == bits(w) // 8 + 4 * 16
    assert bits(w) // 8 == 8 * 64 // 2 + 8 * 2 * 2 + 8 * 2
    other = nn.ModuleList([Linear(_quantized(8, 64), None, "a"), Linear(_quantized(8, 64), None, "b")])
    assert parameters(other) == 2 * 8 * 64


def test_one_parameter_in_two_weights_counts_once() -> None:
    value = nn.Parameter(torch.zeros(8, 4))
    net = nn.ModuleList([Linear(Dense(value), None, "a"), Embedding(Dense(value), "b")])
    assert (parameters(net), stored(net)) == (32, 128)


def test_on_meta() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(1000, 1000, bias=False), nn.Linear(1000, 1000, bias=False))
    assert (parameters(net), stored(net)) == (2_000_000, 8_000_000)


def test_readings_are_counted() -> None:
    found = {one.name: one for one in readings(nn.Linear(6, 4, bias=False))}
    assert {name: one.value for name, one in found.items()} == {
        "parameters": 24.0, "bytes.weights": 96.0, "bytes.weights16": 48.0,
    }  # fmt: skip
    assert all(one.how == "counted" for one in found.values())
