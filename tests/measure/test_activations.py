"""Live bytes of a call, worked by hand, on the CPU as on the meta device."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab.core.fit import Site
from trimtab.core.linear import Linear
from trimtab.core.reading import Reading
from trimtab.measure.activations import Live, activations, reading, stand_ins
from trimtab.quantize.rtn import RTN

DEVICES = ("cpu", "meta")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_chain_holds_two_neighbours_and_a_graph_all_of_them(device: str, mode: Any) -> None:
    """Four layers of n floats: without gradients the input of a layer and its output are alive, and what two layers
    before was is gone; with them everything stays."""
    n = 1000
    x = torch.zeros(n, device=device)

    def call(steps: int = 4) -> torch.Tensor:
        y = x
        for _ in range(steps):
            y = y.exp()  # saved for its gradient
        return y

    with mode():
        assert activations(call) == (2 * 4 * n, 4 * n)
    x.requires_grad_()
    assert activations(call) == (4 * 4 * n, 4 * 4 * n)


@pytest.mark.parametrize("device", DEVICES)
def test_views_inputs_weights_and_writes_in_place_cost_nothing(device: str) -> None:
    layer, x = nn.Linear(8, 8, device=device), torch.zeros(8, 8, device=device)
    into = torch.empty(8, 8, device=device)
    with torch.no_grad():
        assert activations(lambda: x.view(4, 16).t()[1:]) == (0, 0)
        assert activations(lambda: x.add_(1).mul_(2)) == (0, 0)
        assert activations(lambda: torch.mm(x, layer.weight, out=into)) == (0, 0)
        assert activations(lambda: layer(x)) == (256, 256)
        assert activations(lambda: x.exp().view(-1)[:2]) == (256, 256)  # a view keeps the whole
        assert activations(lambda: [x.exp().sum(), x.exp().sum()]) == (256 + 4 + 4, 8)


@pytest.mark.parametrize("device", DEVICES)
def test_an_mlp_by_hand(device: str) -> None:
    """down(silu(gate) * up): gate, its silu and up are m wide and still named when their product is made and used."""
    t, d, m = 6, 4, 64
    gate, up, down = (nn.Linear(a, b, bias=False, device=device) for a, b in ((d, m), (d, m), (m, d)))
    x = torch.zeros(t, d, device=device)

    def call() -> torch.Tensor:
        g = gate(x)
        a = F.silu(g)
        u = up(x)
        return down(a * u)

    with torch.no_grad():
        assert activations(call) == (4 * 4 * t * m + 4 * t * d, 4 * t * d)


def test_fused_attention_stores_no_scores_and_plain_attention_does() -> None:
    b, h, t, d = 2, 4, 32, 8
    for device in DEVICES:
        q = torch.zeros(b, h, t, d, device=device)
        with torch.inference_mode():
            fused, _ = activations(lambda: F.scaled_dot_product_attention(q, q, q))  # noqa: B023
            plain, _ = activations(lambda: (q @ q.mT).softmax(-1) @ q)  # noqa: B023
        assert fused < 2 * q.nbytes
        assert plain >= 2 * 4 * b * h * t * t


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_decoder_is_the_same_on_the_meta_device(attention: str) -> None:
    config = LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=96, num_hidden_layers=3,
                         num_attention_heads=4, num_key_value_heads=4, attn_implementation=attention)  # fmt: skip
    peaks = {}
    for device in DEVICES:
        with torch.device(device):
            net = LlamaForCausalLM(config).eval()
            ids = torch.zeros(2, 24, dtype=torch.long)
        with torch.inference_mode():
            peaks[device] = activations(lambda: net(input_ids=ids, use_cache=True, logits_to_keep=1))  # noqa: B023
    cache = 3 * 2 * 4 * 2 * 4 * 24 * 8
    assert peaks["meta"][1] == peaks["cpu"][1] == cache + 4 * 2 * 40
    assert peaks["meta"][0] == pytest.approx(peaks["cpu"][0], rel=0.1)
    assert peaks["cpu"][0] > 4 * 2 * 24 * (2 * 96 + 32)


def test_training_holds_more_than_answering_and_lets_it_go() -> None:
    net = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.GELU())])
    x = torch.randn(16, 64)
    with torch.no_grad():
        answering, _ = activations(lambda: net(x))
    _, saved = activations(lambda: net(x))
    assert answering == 2 * 4 * 16 * 64
    assert saved >= 7 * 4 * 16 * 64  # each linear's output and each gelu's, for the backward pass

    mode = Live()
    with mode:
        net(x).sum().backward()
    gradients = sum(one.nbytes for one in net.parameters())
    for one in net.parameters():
        one.grad = None
    gc.collect()
    assert mode.peak >= saved + gradients / 8
    assert mode.now == 0


def test_the_reading_is_counted_bytes() -> None:
    x = torch.ones(10)
    assert reading("memory.activations.x", lambda: x + 1) == Reading("memory.activations.x", 40.0, "bytes")


def test_stand_ins_hold_what_a_dense_model_holds_whatever_the_weights_are_made_of() -> None:
    """A linear whose weight is codes makes a dense matrix for every call; with stand-ins none is counted, kernels come
    back, and a linear of another shape has a block of its own shape."""
    torch.manual_seed(0)
    hosts = [Linear.of(nn.Linear(64, 96, bias=False), "a"), Linear.of(nn.Linear(96, 64, bias=False), "b")]
    x = torch.randn(3, 64)

    def call() -> torch.Tensor:
        return hosts[1](hosts[0](x))

    with torch.no_grad():
        dense = activations(call)
        for host in hosts:
            host.w = RTN(4, 32)(host.w, Site(host.name, host.w.dense))
        made = activations(call)
        assert made[0] > dense[0] + 4 * 96 * 64 - 1
        with stand_ins(hosts):
            assert activations(call) == dense
            assert call().shape == (3, 64)
            assert call().abs().sum() > 0
    assert [host.kernel for host in hosts] == [None, None]
