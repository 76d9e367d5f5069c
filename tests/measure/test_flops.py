"""Counted operations against formulas worked by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab.measure.flops import Flops, count, flops


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_linear(inference: bool, bias: bool) -> None:
    layer, x = nn.Linear(24, 40, bias=bias), torch.randn(3, 7, 24)
    with torch.inference_mode(inference):
        assert count(lambda: layer(x)) == 2 * 3 * 7 * 24 * 40


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 1), (6, 2)])
def test_attention_with_grouped_queries(mode: Any, heads: int, groups: int) -> None:
    q, k, v = torch.randn(2, heads, 9, 16), torch.randn(2, groups, 13, 16), torch.randn(2, groups, 13, 16)
    wanted = 2 * (2 * heads * 9 * 13 * 16) * 2  # scores and mixing, two operations each
    with mode():
        assert count(lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=heads != groups)) == wanted
        mask = torch.ones(9, 13, dtype=torch.bool)
        assert count(lambda: F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=heads != groups)) == wanted


def test_attention_spelt_out() -> None:
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 4, 13, 16)
    assert count(lambda: (q @ k.mT).softmax(-1) @ k) == 4 * 2 * 4 * 9 * 13 * 16
    assert count(lambda: torch.einsum("bhtd,bhsd->bhts", q, k)) == 2 * 2 * 4 * 9 * 13 * 16


def test_broadcast_products() -> None:
    x, w = torch.randn(5, 1, 3, 4), torch.randn(2, 4, 6)
    with torch.inference_mode():
        assert count(lambda: x @ w) == 2 * 5 * 2 * 3 * 4 * 6
        assert count(lambda: x[0, 0] @ w[0, :, 0]) == 2 * 3 * 4


@pytest.mark.parametrize("groups", [1, 3])
def test_patch_convolution(groups: int) -> None:
    layer = nn.Conv2d(3, 12, kernel_size=8, stride=8, groups=groups)
    x = torch.randn(2, 3, 32, 48)
    assert count(lambda: layer(x)) == 2 * 2 * (4 * 6) * 12 * (3 // groups) * 8 * 8
    back = nn.ConvTranspose2d(3, 5, kernel_size=4, stride=2)
    assert count(lambda: back(x)) == 2 * 2 * (32 * 48) * 3 * 5 * 4 * 4


def test_packed_products() -> None:
    x, codes = torch.randn(4, 64), torch.randint(0, 16, (32, 64), dtype=torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scales = torch.ones(2, 32, 2)
    assert count(lambda: torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, 32, scales)) == 2 * 4 * 64 * 32
    bytes_ = torch.randint(-9, 9, (32, 64), dtype=torch.int8)
    narrow = x.bfloat16()
    assert count(lambda: torch._weight_int8pack_mm(narrow, bytes_, torch.ones(32).bfloat16())) == 2 * 4 * 64 * 32
    square = torch.ones(32, 32, dtype=torch.int8)
    assert count(lambda: torch._int_mm(square, square)) == 2 * 32**3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_whole_decoder(attention: str) -> None:
    d, inner, heads, groups, size, layers, words = 48, 80, 6, 2, 8, 3, 101
    config = LlamaConfig(vocab_size=words, hidden_size=d, intermediate_size=inner, num_hidden_layers=layers,
                         num_attention_heads=heads, num_key_value_heads=groups, head_dim=size,
                         attn_implementation=attention)  # fmt: skip
    net = LlamaForCausalLM(config).eval()
    b, t = 2, 11
    ids = torch.randint(words, (b, t))
    projections = d * size * (2 * heads + 2 * groups)
    layer = 2 * b * t * (projections + 3 * d * inner) + 4 * b * heads * t * t * size
    rotary = 2 * b * (size // 2) * t  # the angles are an outer product
    with torch.no_grad():
        found = count(lambda: net(input_ids=ids, use_cache=False))
    assert found - layers * layer - 2 * b * t * d * words in (0, rotary, rotary // b)


def test_norms_and_activations_are_not_counted_and_operators_are_named() -> None:
    x, w = torch.randn(4, 6), torch.randn(5, 6)
    mode = Flops()
    with mode:
        F.layer_norm(F.gelu(F.linear(x, w)), (5,)).softmax(-1).sum()
    assert mode.total == 2 * 4 * 5 * 6
    assert len(mode.by_operator) == 1
    assert flops("flops.x", lambda: F.linear(x, w)).value == 240.0


def test_a_product_into_a_given_tensor_is_counted_as_any_other() -> None:
    x, w, out = torch.randn(3, 4), torch.randn(4, 5), torch.empty(3, 5)
    assert count(lambda: torch.mm(x, w, out=out)) == count(lambda: x @ w) == 2 * 3 * 4 * 5
    assert count(lambda: torch.addmm(out, x, w, out=torch.empty(3, 5))) == 2 * 3 * 4 * 5
