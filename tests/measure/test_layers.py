"""Operations by module against formulas written out here, and against loops that count every multiplication."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab import anatomy
from trimtab.core.errors import BadInput
from trimtab.core.reading import Reading
from trimtab.measure.flops import count, flops
from trimtab.measure.layers import by_part, layers, macs, total
from trimtab.measure.params import parameters, stored


class Attention(nn.Module):
    """h query heads and g key heads of d channels, spelt out."""

    def __init__(self, width: int, heads: int, groups: int, size: int) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, size
        self.q, self.k, self.v = (nn.Linear(width, n * size) for n in (heads, groups, groups))
        self.o = nn.Linear(heads * size, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, self.heads, self.size).transpose(1, 2)
        k, v = (one(x).view(b, t, self.groups, self.size).transpose(1, 2) for one in (self.k, self.v))
        k, v = (one.repeat_interleave(self.heads // self.groups, 1) for one in (k, v))
        mixed = (q @ k.mT).softmax(-1) @ v
        return self.o(mixed.transpose(1, 2).reshape(b, t, -1))


@pytest.mark.parametrize(("heads", "groups"), [(6, 6), (6, 2), (6, 1)])
def test_attention(heads: int, groups: int) -> None:
    """Four projections, scores (b h t t d) and mixing (the same); heads that share keys save projections only."""
    b, t, width, size = 2, 7, 36, 10
    net, x = Attention(width, heads, groups, size), torch.randn(2, 7, 36)
    found = {one.path: one for one in layers(net, lambda: net(x))}
    q, kv = 2 * b * t * width * heads * size, 2 * b * t * width * groups * size
    scores = 2 * b * heads * t * t * size
    assert (found["q"].flops, found["k"].flops, found["v"].flops, found["o"].flops) == (q, kv, kv, q)
    assert found[""].own == 2 * scores
    assert found[""].flops == 2 * q + 2 * kv + 2 * scores
    assert found["q"].operators == {"aten.addmm": q}
    assert found["q"].macs == q // 2


def test_mlp() -> None:
    """Gate, up and down: 3 d m multiply-adds a token."""
    net = nn.ModuleDict({"gate": nn.Linear(12, 40), "up": nn.Linear(12, 40), "down": nn.Linear(40, 12)})
    x = torch.randn(5, 12)
    found = layers(net, lambda: net["down"](F.silu(net["gate"](x)) * net["up"](x)))
    assert [one.path for one in found] == ["gate", "up", "down"]
    assert sum(one.macs for one in found) == 5 * 3 * 12 * 40


def loops(x: torch.Tensor, conv: nn.Conv2d) -> tuple[torch.Tensor, int]:
    """A convolution one multiplication at a time, and how many there were."""
    groups, step = conv.groups, conv.stride[0]
    inside, outside = conv.in_channels // groups, conv.out_channels // groups
    size = conv.kernel_size[0]
    rows = (x.shape[2] - size) // step + 1
    out, done = torch.zeros(len(x), conv.out_channels, rows, rows, dtype=x.dtype), 0
    places = itertools.product(range(len(x)), range(conv.out_channels), range(rows), range(rows))
    for n, o, i, j in places:
        for c, a, b in itertools.product(range(inside), range(size), range(size)):
            out[n, o, i, j] += conv.weight[o, c, a, b] * x[n, o // outside * inside + c, i * step + a, j * step + b]
            done += 1
    return out, done


@pytest.mark.parametrize(
    ("inside", "outside", "size", "step", "groups"),
    [(3, 4, 3, 1, 1), (4, 6, 3, 1, 2), (4, 4, 3, 2, 4), (4, 8, 1, 1, 1), (4, 8, 2, 2, 4)],
)
def test_convolutions_agree_with_a_loop_that_counts(
    inside: int, outside: int, size: int, step: int, groups: int
) -> None:
    """Plain, grouped, depthwise, pointwise, and depthwise with two filters a channel."""
    conv = nn.Conv2d(inside, outside, size, step, groups=groups, bias=False).double()
    x = torch.randn(2, inside, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        wanted, multiplications = loops(x, conv)
        torch.testing.assert_close(conv(x), wanted)
        assert macs("m", lambda: conv(x)) == Reading("m", float(multiplications), "mac")
        assert count(lambda: conv(x)) == 2 * multiplications
    side = (6 - size) // step + 1
    assert multiplications == 2 * size * size * inside * outside * side * side // groups


def test_the_lectures_seven_by_seven() -> None:
    """A 3 x 3 kernel over 7 x 7 without padding: 9 D_in x 25 D_out multiply-adds, 9 D_in D_out weights; depthwise
    separable: 9 D_in x 25 and then D_in x 25 D_out."""
    into, out = 16, 24
    with torch.device("meta"):
        plain = nn.Conv2d(into, out, 3, bias=False)
        deep = nn.Conv2d(into, into, 3, groups=into, bias=False)
        point = nn.Conv2d(into, out, 1, bias=False)
        x = torch.empty(1, into, 7, 7)
    assert macs("m", lambda: plain(x)).value == 9 * into * 25 * out
    assert parameters(plain) == 9 * into * out
    assert macs("m", lambda: point(deep(x))).value == 9 * into * 25 + into * 25 * out
    assert parameters(deep) + parameters(point) == 9 * into + into * out


def mobilenet() -> nn.Sequential:
    """MobileNet v1 (Howard et al. 2017, table 1), its norms left out, which have no products."""
    shape = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2),
             *[(512, 512, 1)] * 5, (512, 1024, 2), (1024, 1024, 1)]  # fmt: skip
    body: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False)]
    for into, out, step in shape:
        body += [nn.Conv2d(into, into, 3, step, 1, groups=into, bias=False), nn.Conv2d(into, out, 1, bias=False)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


def test_mobilenet_has_569_million_multiply_adds_on_the_meta_device() -> None:
    with torch.device("meta"):
        net, x = mobilenet(), torch.empty(1, 3, 224, 224)
    found = layers(net, lambda: net(x))
    assert found[0].macs == pytest.approx(569e6, rel=0.01)
    assert found[0].macs == sum(one.own for one in found) // 2
    shares = {kind: sum(one.macs for one in found[1:] if _kind(net, one.path) == kind) for kind in ("deep", "point")}
    assert shares["point"] / found[0].macs == pytest.approx(0.9486, abs=0.001)  # the paper's table 2
    assert shares["deep"] / found[0].macs == pytest.approx(0.0306, abs=0.001)


def _kind(net: nn.Sequential, path: str) -> str:
    layer = net.get_submodule(path)
    if not isinstance(layer, nn.Conv2d):
        return "other"
    return "deep" if layer.groups > 1 else "point" if layer.kernel_size == (1, 1) else "plain"


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1, each with its norm, and a projection where the shape changes."""

    def __init__(self, into: int, width: int, step: int) -> None:
        super().__init__()
        made: list[nn.Module] = []
        for a, b, size, by in ((into, width, 1, 1), (width, width, 3, step), (width, 4 * width, 1, 1)):
            made += [nn.Conv2d(a, b, size, by, size // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*made[:-1])
        change = into != 4 * width or step != 1
        skip = [nn.Conv2d(into, 4 * width, 1, step, bias=False), nn.BatchNorm2d(4 * width)] if change else []
        self.skip = nn.Sequential(*skip)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.skip(x))


def resnet101() -> nn.Sequential:
    """ResNet-101 (He et al. 2016, table 1): 3, 4, 23 and 3 blocks."""
    body: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    into = 64
    for i, (blocks, width) in enumerate(((3, 64), (4, 128), (23, 256), (3, 512))):
        for j in range(blocks):
            body.append(Bottleneck(into, width, 2 if i and not j else 1))
            into = 4 * width
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def test_resnet_101_has_the_lectures_numbers_and_megabytes() -> None:
    with torch.device("meta"):
        net, x = resnet101().eval(), torch.empty(1, 3, 224, 224)
    assert parameters(net) == 44_549_160
    assert 4 * parameters(net) / 2**20 == pytest.approx(169.9, abs=0.05)
    assert stored(net) / 2**20 == pytest.approx(171, abs=1)  # the lecture's file, with the norms' means and variances
    assert macs("m", lambda: net(x)).value == pytest.approx(7.8e9, rel=0.01)  # 7.6 in the paper, which strides before


def test_a_module_called_twice_is_counted_twice_and_hooks_go_again() -> None:
    net = nn.Linear(4, 6)
    found = layers(net, lambda: (net(torch.ones(3, 4)), net(torch.ones(5, 4))))
    assert (found[0].calls, found[0].flops) == (2, 2 * 8 * 4 * 6)
    with pytest.raises(RuntimeError, match="shape"):
        layers(net, lambda: net(torch.ones(3, 5)))
    assert not net._forward_hooks
    assert not net._forward_pre_hooks


def test_a_decoders_parts_add_up_to_the_whole() -> None:
    config = LlamaConfig(vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)  # fmt: skip
    net = LlamaForCausalLM(config).eval()
    anatomy_of = anatomy.of(net)
    ids = torch.randint(1, 50, (2, 9))

    def call() -> Any:
        with torch.no_grad():
            return net(input_ids=ids, use_cache=False)

    found = layers(net, call)
    paths = [one.path for one in found]
    assert "model.layers.1.mlp.down_proj" in paths
    whole = count(call)
    assert found[0].flops == sum(one.own for one in found) == whole
    head = 2 * 2 * 9 * 24 * 50
    parts = by_part(found, lambda path: anatomy_of.part_of(path) if path.startswith("lm_head") else "language")
    assert parts == {"head": head, "language": whole - head}
    blocks = [one.flops for one in found if one.path in ("model.layers.0", "model.layers.1")]
    assert blocks[0] == blocks[1]


def test_operations_and_multiply_adds_are_not_added() -> None:
    layer, x = nn.Linear(4, 6), torch.ones(3, 4)
    f, m = flops("f", lambda: layer(x)), macs("m", lambda: layer(x))
    assert (f.value, f.unit, m.value, m.unit) == (144.0, "flop", 72.0, "mac")
    assert total("all", [f, f]) == Reading("all", 288.0, "flop")
    with pytest.raises(BadInput, match="all: got flop and mac; accepted: figures of one unit"):
        total("all", [f, m])
    with pytest.raises(BadInput, match="got nothing"):
        total("all", [])
