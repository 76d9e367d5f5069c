"""The official ``openai`` client, unmodified, against a real server."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
import torch
from serving import Served, data_url, generated, shown

from trimtab.data.sample import Sample

TALK: Any = [{"role": "user", "content": "w5 w9 w20"}]


def test_a_stream_is_the_answer_in_parts(seeing: Served, asked: list[Sample]) -> None:
    client = seeing.openai
    messages: Any = shown(data_url(asked[1].open()), asked[1].question)  # type: ignore[misc]
    whole = client.chat.completions.create(model="small", messages=messages, temperature=0)
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    parts = list(client.chat.completions.create(model="small", messages=messages, temperature=0, stream=True,
                                                stream_options={"include_usage": True}))  # fmt: skip
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant"
    assert [part.choices[0].finish_reason for part in parts if part.choices][-1] == "stop"
    assert not parts[-1].choices
    assert parts[-1].usage is not None
    assert parts[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({part.id for part in parts}) == 1
    ours = [part.model_extra["trimtab"] for part in parts if part.model_extra and "trimtab" in part.model_extra]
    assert len(ours) == 2, "with the end of the answer, and with its usage"
    assert ours[1]["image_tokens"] == {"seen": 256, "kept": 128}
    assert ours[1]["seconds_to_first_token"] > 0


def test_without_usage_a_stream_has_none(tiny_server: Served) -> None:
    with tiny_server.client.stream("POST", "/v1/completions", json={"prompt": "w5", "max_tokens": 3, "stream": True,
                                                                     "temperature": 0}) as answer:  # fmt: skip
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert events[-1] == "[DONE]"
    found = [json.loads(one) for one in events[:-1]]
    assert all("usage" not in one for one in found)
    whole = tiny_server.post("/v1/completions", prompt="w5", max_tokens=3, temperature=0)
    assert "".join(one["choices"][0]["text"] for one in found) == whole["choices"][0]["text"]
    assert [one["choices"][0]["finish_reason"] for one in found][-1] == "length"
    assert [("trimtab" in one) for one in found] == [False] * (len(found) - 1) + [True]


def test_a_seed_repeats_an_answer_and_several_differ(tiny_server: Served) -> None:
    client = tiny_server.openai

    def drawn(**more: Any) -> list[str | None]:
        made = client.chat.completions.create(model="tiny", messages=TALK, max_tokens=12, **more)
        return [one.message.content for one in made.choices]

    first = drawn(seed=7, n=3)
    assert drawn(seed=7, n=3) == first
    assert len(set(first)) == 3
    assert drawn(seed=8) != first[:1]
    assert drawn(seed=8) == first[1:2], "the second answer's seed is the next one"
    assert drawn(temperature=0, n=2) == drawn(temperature=0) * 2
    assert drawn(seed=3, top_p=1e-9) == drawn(temperature=0)
    assert drawn() != drawn(), "without a seed each is drawn anew"


def test_it_stops_before_a_stop_sequence_and_never_shows_a_part_of_it(tiny_server: Served) -> None:
    ask: Any = {"model": "tiny", "prompt": "w5 w9", "max_tokens": 12, "seed": 11}
    client = tiny_server.openai
    text = client.completions.create(**ask).choices[0].text
    words = text.split()
    assert len(set(words)) > 9
    stop = f" {words[4]} {words[5][:2]}"  # ends within a word
    wanted = text[: text.index(stop)]
    made = client.completions.create(**ask, stop=[stop, "never"])
    assert made.choices[0].text == wanted
    assert made.choices[0].finish_reason == "stop"
    assert made.usage is not None
    assert made.usage.completion_tokens == 6
    shown = ""
    for part in client.completions.create(**ask, stop=stop, stream=True):
        shown += part.choices[0].text
        assert wanted.startswith(shown)
    assert shown == wanted
    beside = client.completions.create(**ask, stop=stop, logprobs=0).choices[0].logprobs
    assert beside is not None
    assert beside.tokens == words[:4], "words of the stop sequence are not told"


def test_log_probabilities_are_the_models(tiny_server: Served) -> None:
    loaded = tiny_server.house.entries["tiny"].loaded
    made = tiny_server.openai.chat.completions.create(model="tiny", messages=TALK, max_tokens=6, temperature=0,
                                                      logprobs=True, top_logprobs=4)  # fmt: skip
    assert made.choices[0].logprobs is not None
    rows = made.choices[0].logprobs.content
    assert rows is not None
    prompt = loaded.tokenizer("w5 w9 w20\n")["input_ids"]
    said = generated(loaded, prompt, 6)
    assert [row.token for row in rows] == loaded.tokenizer.convert_ids_to_tokens(said)
    with torch.no_grad():
        logits = loaded.library(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    wanted = logits.log_softmax(-1)
    for row, token, all_ in zip(rows, said, wanted, strict=True):
        assert row.logprob == pytest.approx(float(all_[token]), abs=1e-4)
        assert [one.logprob for one in row.top_logprobs] == pytest.approx(all_.topk(4).values.tolist(), abs=1e-4)
        assert row.top_logprobs[0].token == row.token
        assert bytes(row.bytes or ()) == row.token.encode()


def test_penalties_and_biases_move_words(tiny_server: Served) -> None:
    client = tiny_server.openai
    plain = tiny_server.said([1, 5, 9], max_tokens=20)
    away = tiny_server.said([1, 5, 9], max_tokens=20, logit_bias={str(plain[0]): -100})
    assert plain[0] not in away
    assert tiny_server.said([1, 5, 9], max_tokens=3, logit_bias={"77": 100}) == [77] * 3
    once = tiny_server.said([1, 5, 9], max_tokens=20, logit_bias={"77": 100}, frequency_penalty=2)
    assert once[:3] == [77] * 3
    many = tiny_server.said([1, 5, 9], max_tokens=80, presence_penalty=2, frequency_penalty=2)
    assert len(set(many)) > len(set(tiny_server.said([1, 5, 9], max_tokens=80)))
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        client.completions.create(model="tiny", prompt="w5", logit_bias={"96": 1})


def test_lists_of_prompts_and_token_ids(tiny_server: Served) -> None:
    client = tiny_server.openai
    both = client.completions.create(model="tiny", prompt=["w5 w9", "w70"], max_tokens=5, temperature=0, n=2)
    each = [client.completions.create(model="tiny", prompt=one, max_tokens=5, temperature=0).choices[0].text
            for one in ("w5 w9", "w70")]  # fmt: skip
    assert [one.index for one in both.choices] == [0, 1, 2, 3]
    assert [one.text for one in both.choices] == [each[0], each[0], each[1], each[1]]
    ids = client.completions.create(model="tiny", prompt=[[5, 9], [70]], max_tokens=5, temperature=0)
    assert [one.text for one in ids.choices] == each
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3
    assert ids.usage.completion_tokens == 10
    default = client.completions.create(model="tiny", prompt="w5")
    assert default.usage is not None
    assert default.usage.completion_tokens == 16


def test_models_are_listed(seeing: Served) -> None:
    client = seeing.openai
    assert [one.id for one in client.models.list()] == ["small", "builtin:easyvqa-llava"]
    assert client.models.retrieve("builtin:easyvqa-llava").id == "builtin:easyvqa-llava"
    with pytest.raises(openai.NotFoundError, match="nearest: 'small'"):
        client.chat.completions.create(model="smal", messages=TALK)


def test_errors_have_the_clients_classes(tiny_server: Served) -> None:
    client = tiny_server.openai
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="tiny", messages=TALK, temperature=9)
    assert raised.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="together"):
        client.chat.completions.create(model="tiny", messages=TALK, max_tokens=1000)
    with pytest.raises(openai.BadRequestError, match="pictures"):
        client.chat.completions.create(model="tiny", messages=shown("data:image/png;base64,AA"))  # type: ignore[arg-type]
