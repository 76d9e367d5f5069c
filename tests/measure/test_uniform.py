"""Models on uniform hardware: costs by hand, and that a real decoder's time has the form that is fitted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab.core.errors import BadInput
from trimtab.measure.idealized import Runtime, Timing, fit, least
from trimtab.measure.uniform import Cost, Serving, compare, cost, profiled
from trimtab.measure.vlm import Parts, parts


def test_costs_are_the_runtime_times_what_is_held() -> None:
    runtime = Runtime((10.0, 110.0), (1.0, 2.0), 0.1, 1.0, 9)
    found = cost(runtime, (60, 11), Serving(8, price=4.5, watts=400.0))
    assert found == Cost(pytest.approx(2.5), pytest.approx(20.0), pytest.approx(20 * 4.5 / 3600), pytest.approx(8000.0))
    assert cost(runtime, (10, 1), Serving()) == Cost(1.0, 1.0, None, None)


def test_models_are_compared_on_the_same_queries_the_quickest_first() -> None:
    """The larger model is quicker here since it has eight accelerators, and costs more for that."""
    large = (Runtime((10.0, 20.0), (1.0, 2.0), 0.1, 1.0, 9), Serving(8, price=3.6))
    small = (Runtime((10.0, 20.0), (2.0, 4.0), 0.2, 1.0, 9), Serving(1, price=3.6, watts=100.0))
    rows = compare({"small": small, "large": large}, [(10, 1), (20, 11)])
    assert [row["model"] for row in rows] == ["large", "small"]
    assert rows[0]["seconds"] == pytest.approx((1 + 3) / 2)
    assert rows[0]["accelerator_seconds"] == pytest.approx(16.0)
    assert (rows[0]["dollars"], rows[1]["dollars"]) == (pytest.approx(0.016), pytest.approx(0.004))
    assert (rows[0]["joules"], rows[1]["joules"]) == (None, pytest.approx(400.0))
    with pytest.raises(BadInput, match="queries: got none"):
        compare({"small": small}, [])


def test_a_profile_is_the_shortest_of_repeats_of_prompt_and_tokens() -> None:
    """A stub whose prompt takes p and whose token takes 2, with a hiccup in every other call."""
    now, hiccups = [0.0], itertools.cycle([7.0, 0.0])
    said: list[str] = []

    def make(prompt: int) -> Parts:
        def prefill() -> None:
            said.append("prefill")
            now[0] += prompt + next(hiccups)

        def decode() -> None:
            said.append("decode")
            now[0] += 2.0

        return Parts(None, prefill, decode, lambda: 0, 1)

    found = profiled(make, (3, 5), (1, 4), repeats=2, clock=lambda: now[0])
    assert found == [Timing(3, 1, 3.0), Timing(3, 4, 9.0), Timing(5, 1, 5.0), Timing(5, 4, 11.0)]
    assert said[:9] == ["prefill"] * 3 + ["prefill", "decode", "decode", "decode", "prefill", "decode"]
    assert fit(found).per_token == pytest.approx(2.0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_real_decoders_time_is_of_this_form() -> None:
    """R^2 of the fit on a tiny Llama, whose seconds are those that one thread computes, so that a busy machine changes
    little; no figure of the clock itself is asserted. Minima only get better, so it is given several chances."""
    config = LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=4,
                         num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)  # fmt: skip
    net = LlamaForCausalLM(config).eval()

    def make(prompt: int) -> Parts:
        ids = torch.randint(1, 64, (1, prompt))
        return parts(net, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    taken: list[Timing] = []
    for _ in range(6):
        taken = least([*taken, *profiled(make, (16, 64, 128), (1, 8, 24), repeats=3, clock=time.thread_time)])
        found = fit(taken)
        if found.r2 > 0.95:
            break
    assert found.r2 > 0.95
    assert found.per_token > 0
