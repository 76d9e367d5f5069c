"""What a tower has when it is lowered, beside the kernels of its linears: MLPs in one call, and attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPVisionConfig,
    OPTConfig,
    OPTForCausalLM,
    SiglipVisionConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.clip.modeling_clip import CLIPMLP
from transformers.models.siglip.modeling_siglip import SiglipMLP
from weights import EXACT, HALVES, HERE, SITE, far, levels, made, stored
from weights import TILED as BY_TILES

from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy.attention import attend
from trimtab.core.errors import Refused
from trimtab.core.linear import Linear
from trimtab.core.native import library
from trimtab.core.plain import CURVES, curve_of
from trimtab.load.sources import open_source
from trimtab.quantize import RTN
from trimtab.run.walk import walk
from trimtab.runtime.bidirectional import TILED, Whole, look, look_away
from trimtab.runtime.compiled import Compiled
from trimtab.runtime.lower import lower
from trimtab.runtime.mlp import FORWARD, Fused, fuse, hosts_of, part
from trimtab.runtime.plan.layout import Laid, laid

NAMES = ("silu", "gelu_pytorch_tanh", "quick_gelu", "gelu")
WIDE, INNER = 96, 192


@pytest.fixture(autouse=True)
def _built() -> None:
    assert library() is not None, "the compiled library is not built"


def mlp(act: str, dtype: torch.dtype, form: str = "4 bits", level: int = HERE, kind: Any = SiglipMLP) -> Any:
    """A library's own, its matrices in ``form`` and lowered."""
    config = CLIPVisionConfig if kind is CLIPMLP else SiglipVisionConfig
    torch.manual_seed(0)
    module = kind(config(hidden_size=WIDE, intermediate_size=INNER, hidden_act=act)).to(dtype)
    for name, (out, width) in {"fc1": (INNER, WIDE), "fc2": (WIDE, INNER)}.items():
        w = made(form, out, width, dtype)
        host = Linear(w, nn.Parameter(torch.randn(out).to(dtype)), name)
        found = laid(w)
        assert isinstance(found, Laid)
        host.kernel = Compiled(found, level)
        setattr(module, name, host)
    return module


@levels
@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("form", ["dense", "4 bits", "3 bits symmetric", "8 bits by rows", "nf4"])
@pytest.mark.parametrize("curve", range(len(NAMES)))
def test_an_mlp_in_one_call_is_that_of_float64(curve: int, form: str, dtype: torch.dtype, level: int) -> None:
    module = mlp(NAMES[curve], dtype, form, level)
    assert curve_of(module) == curve
    fuse(module)
    for rows in ((1,), (5,), (2, 8), (37,), (2, 300)):
        x = torch.randn(*rows, WIDE).to(dtype)
        with torch.no_grad():
            y = module(x)
        assert (y.dtype, y.shape) == (dtype, x.shape)
        up, down = module.fc1, module.fc2
        wanted = CURVES[curve](x.double() @ stored(up.w).T + up.bias.double()) @ stored(down.w).T + down.bias.double()
        tiles = level >= TILED and dtype == torch.bfloat16 and x.numel() // WIDE >= 16
        assert far(y, wanted) < (BY_TILES if tiles else EXACT[dtype] + 2 * HALVES), rows


@pytest.mark.parametrize("curve", range(len(NAMES)))
def test_activations_are_those_of_float64_for_all_that_may_come(curve: int) -> None:
    """Through matrices that change nothing."""
    module, one = mlp(NAMES[curve], torch.float32, "dense"), torch.eye(WIDE)
    for name, value in (("fc1", torch.cat([one, one])), ("fc2", torch.cat([one, 0 * one], 1))):
        host = Linear.of(nn.Linear(value.shape[1], value.shape[0]), name)
        host.w.value.data, host.bias.data = value, torch.zeros(len(value))
        found = laid(host.w)
        assert isinstance(found, Laid)
        host.kernel = Compiled(found, HERE)
        setattr(module, name, host)
    fuse(module)
    assert FORWARD in vars(module)
    x = torch.linspace(-12.0, 12.0, 40 * WIDE).view(40, WIDE)
    x[0, :6] = torch.tensor([0.0, -0.0, 1e4, -1e4, 1e-30, -100.0])
    with torch.no_grad():
        torch.testing.assert_close(module(x).double(), CURVES[curve](x.double()), rtol=2e-6, atol=2e-6)
        x[3, 5] = torch.nan
        assert module(x)[3].isnan().any()
        assert module(x)[[*range(3), *range(4, 40)]].isfinite().all()


def test_what_is_no_plain_mlp_is_none() -> None:
    class Scaled(SiglipMLP):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * super().forward(x)

    assert curve_of(mlp("gelu", torch.float32, kind=Scaled)) is None
    assert curve_of(mlp("relu", torch.float32)) is None
    assert curve_of(mlp("relu", torch.bfloat16)) is None
    assert curve_of(mlp("gelu_10", torch.float32)) is None, "cut off at 10"
    assert curve_of(mlp("quick_gelu", torch.bfloat16, kind=CLIPMLP)) == 2
    assert curve_of(SiglipMLP(SiglipVisionConfig(hidden_size=WIDE, intermediate_size=INNER))) is None, "no hosts"
    assert curve_of(nn.Linear(4, 4)) is None


@pytest.mark.parametrize("family", ["opt", "whisper"])
def test_a_layer_with_matrices_of_these_names_among_others_is_not_asked(family: str) -> None:
    """It takes more than rows, and would raise."""
    if family == "opt":
        model: Any = OPTForCausalLM(OPTConfig(hidden_size=32, ffn_dim=64, num_hidden_layers=1, num_attention_heads=4,
                                              vocab_size=99, word_embed_proj_dim=32))  # fmt: skip
    else:
        model = WhisperForConditionalGeneration(WhisperConfig(
            d_model=32, encoder_layers=1, encoder_attention_heads=4, encoder_ffn_dim=64, decoder_layers=1,
            decoder_attention_heads=4, decoder_ffn_dim=64, num_mel_bins=8, vocab_size=99, pad_token_id=0,
            decoder_start_token_id=1, bos_token_id=1, eos_token_id=2,
        ))  # fmt: skip
    anatomies.of(model.bfloat16()).host()
    for host in [module for module in model.modules() if isinstance(module, Linear)]:
        host.w = RTN(4, 16)(host.w, SITE)
    assert "compiled 4 bits" in lower(model).kernels.values()
    layers = [module for module in model.modules() if hasattr(module, "fc1")]
    assert layers
    assert any(hosts_of(layer) for layer in layers)
    before = [vars(module).copy() for module in model.modules()]
    fuse(model)
    assert [vars(module) for module in model.modules()] == before


@pytest.mark.parametrize("other", ["tap", "hook", "kernel", "acts", "dtype"])
def test_where_somebody_listens_the_modules_own_forward_goes_on(other: str) -> None:
    module, x, seen = mlp("gelu", torch.float32), torch.randn(5, WIDE), list[Tensor]()
    fuse(module)
    if other == "tap":
        module.fc2.tap = lambda _host, given: seen.append(given)
    elif other == "hook":
        module.fc2.register_forward_hook(lambda _host, given, _y: seen.append(given[0]))
    elif other == "kernel":
        module.fc1.kernel = None
    elif other == "acts":
        module.fc2.acts = lambda w, x, bias: (seen.append(x), F.linear(x, w.dense(), bias))[1]
        module.fc2.kernel = None
    else:
        x = x.double()
        module.fc1.kernel = module.fc2.kernel = lambda given, bias: (seen.append(given), F.linear(given, torch.ones(
            INNER if given.shape[1] == WIDE else WIDE, given.shape[1]).double()))[1]  # fmt: skip
    with torch.no_grad():
        assert module(x).shape == x.shape
    assert (hosts_of(module) is None) or other == "dtype"
    assert seen or other == "kernel"


def test_a_gradient_is_refused_by_name_and_no_rows_give_none() -> None:
    module = mlp("gelu", torch.float32)
    fuse(module)
    with pytest.raises(Refused, match="a lowered model: its compiled products have no gradients"):
        module(torch.randn(2, WIDE, requires_grad=True))
    with torch.no_grad():
        assert module(torch.empty(2, 0, WIDE)).shape == (2, 0, WIDE)


def test_a_forward_that_somebody_put_in_place_stays() -> None:
    module = mlp("gelu", torch.float32)
    module.forward = own = lambda x: x
    fuse(module)
    part(module)
    assert module.forward is own


CASES = [(2, 4, 4, 40, 40, 64), (1, 3, 1, 17, 50, 32), (3, 2, 2, 197, 197, 96), (1, 2, 2, 1, 5, 64)]
"""Batch, heads, heads of keys, rows, entries, numbers of a head."""


@pytest.mark.skipif(HERE < TILED, reason="this CPU multiplies no pairs of bfloat16")
@pytest.mark.parametrize("level", range(TILED, HERE + 1))
@pytest.mark.parametrize("sizes", CASES)
def test_attention_is_that_of_float64(sizes: tuple[int, ...], level: int) -> None:
    batch, heads, shared, rows, entries, size = sizes
    torch.manual_seed(0)

    def given(count: int, of: int) -> Tensor:
        return torch.randn(batch, count, of, size).bfloat16().transpose(1, 2)

    q, k, v = given(rows, heads), given(entries, shared), given(entries, shared)
    y = Whole(level)(q, k, v, 0.3)
    assert y is not None
    wide = [one.double().repeat_interleave(heads // shared, 1) for one in (k, v)]
    wanted = ((q.double() @ wide[0].mT * 0.3).softmax(-1) @ wide[1]).transpose(1, 2)
    assert (y.shape, y.dtype) == (wanted.shape, torch.bfloat16)
    assert float((y.double() - wanted).norm() / wanted.norm()) < 4e-3


@pytest.mark.skipif(HERE < TILED, reason="this CPU multiplies no pairs of bfloat16")
def test_what_the_library_does_not_take_is_left_to_others() -> None:
    q = torch.randn(1, 2, 20, 32).bfloat16()
    whole = Whole(HERE)
    assert whole(q, q, q, 0.3) is not None
    assert whole(q.float(), q.float(), q.float(), 0.3) is None
    assert whole(q[..., :24], q[..., :24], q[..., :24], 0.3) is None
    assert whole(q, q[:, :, :0], q[:, :, :0], 0.3) is None
    assert whole(q.mT.contiguous().mT, q, q, 0.3) is None
    assert whole(q[:0], q[:0], q[:0], 0.3) is None
    assert whole(q.expand(2, -1, -1, -1), q, q, 0.3) is None
    assert whole(torch.cat([q, q], 3), q, q, 0.3) is None
    assert whole(torch.randn(1, 3, 20, 32).bfloat16(), q, q, 0.3) is None
    taught = q.clone().requires_grad_()
    assert whole(taught, q, q, 0.3) is None


class Attention(nn.Module):
    def __init__(self, causal: bool | None) -> None:
        super().__init__()
        if causal is not None:
            self.is_causal = causal


@pytest.mark.skipif(HERE < TILED, reason="this CPU multiplies no pairs of bfloat16")
def test_only_attention_that_sees_all_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    monkeypatch.setattr(Whole, "__call__", lambda _self, q, _k, _v, _scaling: asked.append(q) or None)
    q, sees, causal, silent = torch.randn(1, 2, 20, 32), *map(Attention, (False, True, None))
    for module in (sees, causal, silent):
        look(module)
        attend(module, q, q, q, None, scaling=0.3)
    assert len(asked) == 1
    attend(sees, q, q, q, None, scaling=0.3, is_causal=True)
    attend(sees, q, q, q, torch.ones(20, 20, dtype=torch.bool), scaling=0.3)
    attend(sees, q, q, q, None, scaling=0.3, dropout=0.5)
    attend(sees, q, q, q, None, scaling=0.3, softcap=3.0)
    attend(sees, q, q, q, None, scaling=0.3, position_bias=torch.randn(1, 2, 20, 20))
    assert len(asked) == 1
    look_away(sees)
    attend(sees, q, q, q, None, scaling=0.3)
    assert len(asked) == 1


def test_a_lowered_models_tower_answers_as_before_and_all_is_taken_back() -> None:
    """The built-in VLM, let go: what the tower says is what it said before."""
    loaded, plain = (open_source("builtin:easyvqa-llava", dtype="bfloat16") for _ in range(2))
    for one in (loaded, plain):
        walk(one.anatomy, (), methods.make("rtn", {"bits": 8, "group_size": 32}), ["vision"])
    tower = plain.anatomy.tower.module
    pixels = torch.randn(2, 3, tower.config.image_size, tower.config.image_size).bfloat16()
    loaded.lower(release=True)
    mine = loaded.anatomy.tower.module
    fused = [module for module in mine.modules() if isinstance(vars(module).get(FORWARD), Fused)]
    looking = [module for module in mine.modules() if isinstance(vars(module).get("kernel"), Whole)]
    assert len(fused) == len(list(tower.encoder.layers))
    assert len(looking) == (len(fused) if HERE >= TILED else 0)
    with torch.no_grad():
        wanted, found = (one(pixels).last_hidden_state.double() for one in (tower, mine))
    assert float((found - wanted).norm() / wanted.norm()) < 0.02
    with loaded.reference():
        assert not any(isinstance(vars(module).get(FORWARD), Fused) for module in mine.modules())
    assert len([1 for module in mine.modules() if isinstance(vars(module).get(FORWARD), Fused)]) == len(fused)
    loaded.unlower()
    assert not any({FORWARD, "kernel"} & vars(module).keys() for module in [*fused, *looking])
