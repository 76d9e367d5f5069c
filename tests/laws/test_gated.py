"""Gated units in one pass against the libraries' own modules, and what is not taken for one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma3TextConfig, LlamaConfig, Qwen2Config
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP

from trimtab.core.gated import GELU_TANH, SILU, kind_of, multiply
from trimtab.core.linear import Linear
from trimtab.core.onepass import in_one_pass

SIZES: dict[str, Any] = {"hidden_size": 24, "intermediate_size": 70, "num_attention_heads": 4, "num_key_value_heads": 2}
KINDS = {SILU: "silu", GELU_TANH: "gelu_pytorch_tanh"}


def hosted(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    module = module.to(dtype)
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, Linear.of(child, name))
    return module


def made(kind: type[nn.Module], dtype: torch.dtype, name: str) -> nn.Module:
    config = {LlamaMLP: LlamaConfig, Qwen2MLP: Qwen2Config, Gemma3MLP: Gemma3TextConfig}[kind]
    sizes = SIZES | {"hidden_act": name, "hidden_activation": name}
    return hosted(kind(config(**sizes)), dtype)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", [SILU, GELU_TANH])
def test_the_product_is_that_of_float64_in_the_gates_place(kind: int, dtype: torch.dtype, threads: int) -> None:
    gate = torch.cat([torch.randn(400, 641) * 3, torch.tensor([[0.0, -0.0, 88.0, -88.0, 1e4, -1e4] + [1e-30] * 635])])
    gate, up, before = gate.to(dtype), torch.randn(401, 641).to(dtype), torch.get_num_threads()
    x = gate.double()
    z = x if kind == SILU else (8 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)
    wanted = (x / (1 + (-z).exp())).to(dtype).double() * up.double()
    torch.set_num_threads(threads)
    try:
        found = multiply(gate, up, kind)
    finally:
        torch.set_num_threads(before)
    assert found is gate
    one = 2**-7 if dtype == torch.bfloat16 else 2e-5
    torch.testing.assert_close(found.double(), wanted, rtol=one, atol=1e-30)


@pytest.mark.usefixtures("compiled")
def test_what_is_no_number_stays_none() -> None:
    gate = torch.tensor([[torch.nan, torch.inf, 1.0, -torch.inf]])
    assert multiply(gate, torch.tensor([[1.0, 1.0, torch.nan, 1.0]]), SILU).isnan().tolist() == [[1, 0, 1, 0]]


@pytest.mark.usefixtures("compiled")
def test_what_multiplies_may_lie_in_columns() -> None:
    gate, up = torch.randn(300, 200), torch.randn(200, 300).T
    wanted = torch.nn.functional.silu(gate) * up
    torch.testing.assert_close(multiply(gate, up, SILU), wanted, rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize("broken", ["no library", "half", "columns", "dtypes"])
def test_what_the_library_does_not_take_is_multiplied_by_torch(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, up = torch.randn(6, 8), torch.randn(6, 8)
    if broken == "no library":
        monkeypatch.setattr("trimtab.core.gated.library", lambda: None)
    elif broken == "half":
        gate, up = gate.half(), up.half()
    elif broken == "columns":
        gate = torch.randn(8, 6).T
    else:
        up = up.double()
    before = gate.clone()
    assert torch.equal(multiply(gate, up, SILU), torch.nn.functional.silu(before) * up)
    assert torch.equal(gate, before)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("act_kind", list(KINDS))
@pytest.mark.parametrize("kind", [LlamaMLP, Qwen2MLP, Gemma3MLP])
def test_a_librarys_unit_is_known_and_answers_as_before(
    kind: type[nn.Module], act_kind: int, dtype: torch.dtype
) -> None:
    module, x = made(kind, dtype, KINDS[act_kind]), torch.randn(3, 7, 24).to(dtype)
    assert kind_of(module) == act_kind
    with torch.no_grad():
        wanted = module(x)
        with in_one_pass([module]):
            assert "forward" in vars(module)
            found = module(x)
    assert "forward" not in vars(module)
    torch.testing.assert_close(found, wanted, rtol=2**-6 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


@pytest.mark.usefixtures("compiled")
def test_nothing_else_is_taken_for_one() -> None:
    class Scaled(LlamaMLP):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * super().forward(x)

    config = LlamaConfig(**SIZES)
    others = [LlamaMLP(LlamaConfig(**SIZES, hidden_act=name)) for name in ("relu", "gelu", "quick_gelu")]
    for other in (Scaled(config), *others):
        assert kind_of(hosted(other, torch.float32)) is None
        assert kind_of(hosted(other, torch.bfloat16)) is None
    assert kind_of(LlamaMLP(config)) is None, "its linears are no hosts"
    assert kind_of(hosted(LlamaMLP(config), torch.float16)) is None
    assert kind_of(nn.Linear(4, 4)) is None


def test_without_the_library_units_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.core.gated.library", lambda: None)
    module = made(LlamaMLP, torch.float32, "silu")
    assert kind_of(module) is None
    with in_one_pass([module]):
        assert "forward" not in vars(module)
