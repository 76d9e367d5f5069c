"""RMS norms in one pass against the libraries' own modules, and what is not taken for one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from trimtab.core.norm import form_of
from trimtab.core.onepass import in_one_pass


def made(kind: type[nn.Module], n: int, dtype: torch.dtype, eps: float = 1e-6) -> nn.Module:
    module = kind(n, eps)  # type: ignore[call-arg]
    with torch.no_grad():
        module.weight.copy_(0.3 * torch.randn(n) + (0.1 if kind is Gemma3RMSNorm else 1.0))
    return module.to(dtype)


def slow(module: nn.Module, x: Tensor, eps: float) -> Tensor:
    w = module.weight.double() + float(isinstance(module, Gemma3RMSNorm))
    return x.double() / (x.double().square().mean(-1, keepdim=True) + eps).sqrt() * w


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("n", [5, 64, 200])
@pytest.mark.parametrize("kind", [Gemma3RMSNorm, LlamaRMSNorm, Qwen2RMSNorm])
def test_it_answers_as_the_module_and_as_float64(kind: type[nn.Module], n: int, dtype: torch.dtype) -> None:
    module, x = made(kind, n, dtype, 1e-3), (torch.randn(3, 7, n) * torch.logspace(-3, 1, 7)[:, None]).to(dtype)
    form = form_of(module)
    assert form is not None
    with torch.no_grad():
        mine, theirs = form(x), module(x)
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    one = 2**-7 if dtype == torch.bfloat16 else 1e-5  # a rounding
    torch.testing.assert_close(mine, theirs, rtol=one, atol=1e-7)
    torch.testing.assert_close(mine.double(), slow(module, x, 1e-3), rtol=2 * one, atol=1e-6)
    if dtype == torch.bfloat16:
        assert (mine == theirs).float().mean() > 0.99
        assert form.early == (kind is not Gemma3RMSNorm), "Gemma rounds once"


@pytest.mark.usefixtures("compiled")
def test_inside_modules_answer_by_it_and_behind_it_by_themselves() -> None:
    stack = nn.Sequential(made(LlamaRMSNorm, 16, torch.bfloat16), nn.Linear(16, 16, dtype=torch.bfloat16))
    x, calls = torch.randn(4, 16).bfloat16(), list[str]()
    stack[0].register_forward_pre_hook(lambda *_: calls.append("asked"))
    with torch.no_grad(), in_one_pass(stack.modules()):
        assert torch.equal(stack[0](x), form_of(made_again(stack[0]))(x))  # type: ignore[misc]
        half = stack[0](x.half()).float()
        torch.testing.assert_close(half, slow(stack[0], x, 1e-6).float(), rtol=0.02, atol=0.01)
    assert calls, "hooks are called as before"
    with pytest.raises(KeyError), in_one_pass(stack.modules()):
        raise KeyError
    assert "forward" not in vars(stack[0])


def made_again(module: nn.Module) -> nn.Module:
    again = LlamaRMSNorm(16)
    again.weight = module.weight
    return again


@pytest.mark.usefixtures("compiled")
def test_nothing_else_is_taken_for_one() -> None:
    class Halved(LlamaRMSNorm):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * super().forward(x)

    for other in (nn.LayerNorm(16, bias=False), nn.LayerNorm(16), nn.Linear(1, 16, bias=False), Halved(16),
                  nn.Sequential(LlamaRMSNorm(16)), LlamaRMSNorm(16).half(), nn.PReLU(16)):  # fmt: skip
        assert form_of(other) is None


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("kind", [Gemma3RMSNorm, LlamaRMSNorm])
def test_other_dtypes_than_the_modules_own_are_left_to_it(kind: type[nn.Module]) -> None:
    """A float32 norm on 16-bit rows answers in float32 or in 16 bits, as its library has it."""
    module, x = made(kind, 16, torch.float32), torch.randn(4, 16).bfloat16()
    with torch.no_grad():
        wanted = module(x)
        with in_one_pass([module]):
            assert module(x).dtype == wanted.dtype
            assert torch.equal(module(x), wanted)


@pytest.mark.usefixtures("compiled")
def test_a_forward_that_somebody_put_in_place_stays() -> None:
    module = made(LlamaRMSNorm, 16, torch.float32)
    module.forward = hooked = lambda x: 2 * x  # type: ignore[method-assign]
    with in_one_pass([module]):
        assert module.forward is hooked
    assert module.forward is hooked


def test_without_the_library_modules_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.core.norm.library", lambda: None)
    module = made(LlamaRMSNorm, 16, torch.float32)
    assert form_of(module) is None
    with in_one_pass([module]):
        assert "forward" not in vars(module)
