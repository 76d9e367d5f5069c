"""Losses of windows against the definition in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab import anatomy
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.tiny import randomize
from trimtab.anatomy.trimmed import Trimmed
from trimtab.cache import Sinks
from trimtab.core.errors import Anomaly
from trimtab.evaluate.perplexity import ROWS, losses, nll, perplexity


@pytest.fixture
def words() -> Any:
    config = LlamaConfig(vocab_size=101, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128)  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_nll_is_the_sum_of_negative_logs() -> None:
    logits, target = torch.randn(2 * ROWS + 5, 50), torch.randint(50, (2 * ROWS + 5,))
    p = torch.softmax(logits.double(), 1)
    wanted = -sum(math.log(float(p[i, t])) for i, t in enumerate(target.tolist()))
    assert nll(logits, target) == pytest.approx(wanted, rel=1e-6)
    assert nll(logits.bfloat16(), target) == pytest.approx(nll(logits.bfloat16().float(), target), rel=1e-7)


def test_windows_are_scored_alone(words: Any) -> None:
    windows = torch.randint(101, (3, 70))
    found = list(losses(words, windows))
    with torch.no_grad():
        logits = words(input_ids=windows).logits.double()
    for row in range(3):
        log_p = torch.log_softmax(logits[row, :-1], 1)
        wanted = -log_p[torch.arange(69), windows[row, 1:]].mean()
        assert found[row] == pytest.approx(float(wanted), rel=1e-5)
    assert list(losses(words, windows, done={1: 9.0})) == [found[0], 9.0, found[2]]


def test_perplexity_reading() -> None:
    found = perplexity("perplexity.text", [3.0, 3.2, 3.4, 3.1])
    assert found.value == pytest.approx(math.exp(3.175))
    half = 3.182446 * torch.tensor([3.0, 3.2, 3.4, 3.1], dtype=torch.float64).std().item() / 2
    assert found.spread == pytest.approx((math.exp(3.175 - half), math.exp(3.175 + half)), rel=1e-6)
    assert perplexity("p", [3.0]).spread is None


def test_a_loss_that_is_no_number_is_an_anomaly() -> None:
    def broken(input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=torch.full((*input_ids.shape, 7), math.nan))

    broken.device = "cpu"  # type: ignore[attr-defined]
    with pytest.raises(Anomaly, match="window 0 is nan"):
        list(losses(broken, torch.zeros(1, 4, dtype=torch.long)))


def test_a_model_with_a_cache_policy_is_scored_as_it_is_served(words: Any) -> None:
    """Half of the window as the prompt, then token by token, each seeing what the policy has kept by then."""
    randomize(words)
    body, windows = anatomy.of(words), torch.randint(101, (2, 30))
    policy = Sinks(1, 4).policy()
    found = list(losses(Trimmed(body, [policy]), windows))
    for row in range(2):
        slots, ids = Slots(), windows[row : row + 1]
        with torch.no_grad():
            pieces = [prefill(body, {"input_ids": ids[:, :15]}, [policy], slots).logits]
            pieces += [step(body, ids[:, at : at + 1], slots).logits for at in range(15, 29)]
        log_p = torch.cat(pieces, 1)[0].double().log_softmax(1)
        assert found[row] == pytest.approx(-float(log_p[torch.arange(29), windows[row, 1:]].mean()), rel=1e-5)
    roomy = list(losses(Trimmed(body, [Sinks(1, 99).policy()]), windows))
    assert roomy == pytest.approx(list(losses(words, windows)), rel=1e-5)
    assert found != pytest.approx(roomy, rel=1e-2)
