"""Echoed prompts with log probabilities: what lm-evaluation-harness scores choices by."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from serving import Served, entry, served, talking

from trimtab.cache import Sinks
from trimtab.load.loaded import Loaded
from trimtab.serve import rows

IDS = [1, 5, 9, 20, 33, 70, 8, 8, 12, 90]


@torch.no_grad()
def reference(loaded: Loaded, ids: list[int]) -> list[float]:
    logits = loaded.library(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return [float(logits[at, ids[at + 1]]) for at in range(len(ids) - 1)]


def scored(one: Served, **more: Any) -> dict[str, Any]:
    found = one.post("/v1/completions", echo=True, logprobs=1, temperature=0, **({"prompt": IDS} | more))
    return dict(found["choices"][0])


@pytest.mark.parametrize("chunk", [1 << 28, 3 * 4 * 96])
@pytest.mark.parametrize("policies", [(), (Sinks(sinks=1, window=2),)])
def test_a_prompts_words_are_as_likely_as_the_model_says(
    chunk: int, policies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read at once or part by part; a cache policy changes nothing of what was read at once."""
    monkeypatch.setattr(rows, "CHUNK", chunk)
    loaded = talking(policies=policies)
    wanted = reference(loaded, IDS)
    with served(entry(loaded)) as one:
        none = scored(one, max_tokens=0)
        more = scored(one, max_tokens=1)
        plain = one.said(IDS, max_tokens=1)
    assert none["logprobs"]["token_logprobs"][0] is None
    assert none["logprobs"]["top_logprobs"][0] is None
    assert none["logprobs"]["token_logprobs"][1:] == pytest.approx(wanted, abs=1e-4)
    assert none["logprobs"]["tokens"] == loaded.tokenizer.convert_ids_to_tokens(IDS)
    assert none["finish_reason"] == "length"
    assert more["logprobs"]["token_logprobs"][1:-1] == pytest.approx(wanted, abs=1e-4)
    assert more["logprobs"]["tokens"][-1] == loaded.tokenizer.convert_ids_to_tokens(plain)[0]
    assert more["text"] == loaded.tokenizer.decode([*IDS, *plain], skip_special_tokens=True)


def test_the_harness_reads_them_rightly(tiny_server: Served) -> None:
    """As its ``local-completions`` does: sums and greediness of the words behind the context, the last one left out."""
    loaded = tiny_server.house.entries["tiny"].loaded
    best = tiny_server.said(IDS[:4], max_tokens=3)
    for continuation, greedy in ((best, True), ([best[0], 11, 12], False)):
        ids = [*IDS[:4], *continuation]
        made = scored(tiny_server, prompt=[ids], max_tokens=1)["logprobs"]
        sums = sum(made["token_logprobs"][4:-1])
        tops = [max(top.values()) for top in made["top_logprobs"][4:-1]]
        assert len(made["tokens"]) == len(ids) + 1
        assert sums == pytest.approx(sum(reference(loaded, ids)[3:]), abs=1e-3)
        assert (made["token_logprobs"][4:-1] == tops) is greedy


def test_offsets_say_where_words_begin(tiny_server: Served) -> None:
    made = scored(tiny_server, prompt="w5 w90 w7", max_tokens=4)
    places = made["logprobs"]["text_offset"]
    assert all(a < b for a, b in pairwise(places))
    for token, at in zip(made["logprobs"]["tokens"], places, strict=True):
        assert made["text"][at:].lstrip().startswith(token)


def test_an_echo_without_log_probabilities_is_the_prompt_and_more(tiny_server: Served) -> None:
    plain = tiny_server.post("/v1/completions", prompt="w5 w9", max_tokens=4, temperature=0)["choices"][0]
    both = tiny_server.post("/v1/completions", prompt="w5 w9", max_tokens=4, temperature=0, echo=True)["choices"][0]
    assert both["text"] == "w5 w9" + plain["text"]
    assert both["logprobs"] is None
    nothing = tiny_server.post("/v1/completions", prompt="w5 w9", max_tokens=0)
    assert nothing["choices"][0]["text"] == ""
    assert nothing["usage"]["completion_tokens"] == 0


def test_a_plan_scores_as_the_model(builtin: Loaded, compiled: None) -> None:
    ids = builtin.tokenizer("what color is the shape?\nred")["input_ids"]
    with served(entry(builtin)) as one:
        found = scored(one, prompt=ids, max_tokens=0)["logprobs"]["token_logprobs"]
    assert found[1:] == pytest.approx(reference(builtin, ids), abs=0.35, rel=0.05)
