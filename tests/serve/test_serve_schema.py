"""What a body may cost, which members say nothing, and what is said of wrong ones: without a server where none is
needed."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessage
from pydantic import ValidationError
from serving import Served

from trimtab.serve import schema
from trimtab.serve.errors import ApiError
from trimtab.serve.reading import SIGNS, above, parsed
from trimtab.serve.schema import Asked, Chat, Completion, Embedding, asked

TALK: Any = [{"role": "user", "content": "w5"}]


def many(head: str, one: str, tail: str) -> Callable[[int], bytes]:
    return lambda size: (head + f"{one}," * (size // (len(one) + 1)) + one + tail).encode()


def keys(head: str, value: str, tail: str) -> Callable[[int], bytes]:
    return lambda size: (head + ",".join(f'"x{i:07}":{value}' for i in range(size // 12)) + tail).encode()


SHAPES: dict[str, tuple[type[Asked], Callable[[int], bytes]]] = {
    "prompts of a wrong id": (Completion, many('{"prompt":[', "[-1]", "]}")),
    "wrong prompts": (Completion, many('{"prompt":[', "{}", "]}")),
    "prompts of an id": (Completion, many('{"prompt":[', "[1]", "]}")),
    "wrong ids": (Completion, many('{"prompt":[', "-1", "]}")),
    "texts": (Completion, many('{"prompt":[', '"a"', "]}")),
    "wrong inputs": (Embedding, many('{"input":[', "{}", "]}")),
    "inputs": (Embedding, many('{"input":[', '"a"', "]}")),
    "wrong pictures": (Embedding, many('{"input":[', '{"type":"image_url"}', "]}")),
    "wrong stops": (Completion, many('{"prompt":"a","stop":[', "1", "]}")),
    "biases": (Completion, keys('{"prompt":"a","logit_bias":{', "0", "}}")),
    "members": (Completion, keys('{"prompt":"a",', "0", "}")),
    "options": (Completion, keys('{"prompt":"a","stream_options":{', "0", "}}")),
    "messages": (Chat, many('{"messages":[', '{"role":"user","content":"a"}', "]}")),
    "wrong messages": (Chat, many('{"messages":[', "{}", "]}")),
    "parts": (Chat, many('{"messages":[{"role":"user","content":[', '{"type":"text","text":"a"}', "]}]}")),
    "wrong parts": (Chat, many('{"messages":[{"role":"user","content":[', '{"type":"x"}', "]}]}")),
    "tools": (Chat, many('{"messages":[{"role":"user","content":"a"}],"tools":[', '{"a":1}', "]}")),
    "depth": (Chat, lambda size: b'{"user":' + b"[" * size),
    "a name": (Chat, lambda size: b'{"' + b"a" * size + b'":1}'),
    "a kind": (Chat, lambda size: b'{"messages":[{"role":"user","content":[{"type":"' + b"a" * size + b'"}]}]}'),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_refused_costs_little(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are few however many elements are wrong, memory is a small multiple of the body, and no answer repeats
    it. A body of more values than any request has is not even read."""
    counts = list[int]()
    told = schema.told

    def counted(error: ValidationError) -> ApiError:
        counts.append(error.error_count())
        return told(error)

    monkeypatch.setattr(schema, "told", counted)
    kind, made = SHAPES[name]
    for size in (400_000, 8_000_000):
        body = made(size)
        tracemalloc.start()
        with pytest.raises(ApiError) as raised:
            asked(kind, body)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < max(40 * 400_000, 4 * len(body))
        assert len(raised.value.message) < 200
        assert raised.value.status == 400
    assert all(count <= 8 for count in counts)


@pytest.mark.parametrize("member", ["user", "metadata", "store", "prompt_cache_key", "parallel_tool_calls"])
def test_what_says_nothing_is_not_kept(member: str) -> None:
    body = many(f'{{"messages":{json.dumps(TALK)},"{member}":[', '{"a":1}', "]}")(400_000)
    tracemalloc.start()
    found = asked(Chat, body)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert getattr(found, member) is None
    assert kept < 100_000


def signs(value: Any) -> int:
    """Commas, colons and opening brackets of a value that is written as JSON."""
    if isinstance(value, dict):
        return 1 + len(value) + max(0, len(value) - 1) + sum(signs(one) for one in value.values())
    return 1 + max(0, len(value) - 1) + sum(signs(one) for one in value) if isinstance(value, list) else 0


def value(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(5 if depth else 3)
    if kind == 3:
        return [value(draw, depth - 1) for _ in range(draw.randrange(5))]
    if kind == 4:
        return {value(draw, 0): value(draw, depth - 1) for _ in range(draw.randrange(5))}
    return "".join(draw.choices('ab,:[{}]"\\\n/é😀', k=draw.randrange(8))) if kind else draw.random()


@pytest.mark.parametrize("seed", range(60))
def test_signs_in_texts_do_not_count(seed: int) -> None:
    given = value(random.Random(seed), 4)
    body, count = json.dumps(given, ensure_ascii=seed % 2 == 0, indent=seed % 3 or None).encode(), signs(given)
    assert above(count - 1).match(body) if count else True
    assert not above(count).match(body)


def test_a_long_text_of_signs_is_a_text() -> None:
    text = 'a[1],{"b":\\}\n' * 150_000
    assert asked(Completion, json.dumps({"prompt": text}).encode()).prompt == text
    ids = [7] * (SIGNS - 4)
    assert asked(Completion, json.dumps({"prompt": ids}).encode()).prompt == ids
    with pytest.raises(ApiError, match="no JSON"):
        parsed(b'{"prompt":"' + b'\\"[[[[' * 200_000)


def test_a_conversation_may_be_long() -> None:
    """With what clients send back of each message."""
    one = ChatCompletionMessage(role="assistant", content="a").model_dump()
    assert len(one) > 5
    assert len(asked(Chat, json.dumps({"messages": [one] * 10_000}).encode()).messages) == 10_000
    with pytest.raises(ApiError, match="messages: List should have at most 10000"):
        asked(Chat, json.dumps({"messages": [one] * 10_001}).encode())


def test_answers_may_be_sent_back_as_clients_dump_them(tiny_server: Served) -> None:
    client: Any = tiny_server.openai
    first = client.chat.completions.create(model="tiny", messages=TALK, max_tokens=3, temperature=0)
    said = first.choices[0].message.model_dump() | {"annotations": [], "tool_calls": [], "audio": None}
    assert {"refusal", "function_call"} <= set(said)
    again = client.chat.completions.create(model="tiny", messages=[*TALK, said, *TALK], max_tokens=3, temperature=0)
    plain = [*TALK, {"role": "assistant", "content": said["content"]}, *TALK]
    wanted = client.chat.completions.create(model="tiny", messages=plain, max_tokens=3, temperature=0)
    assert again.choices[0].message.content == wanted.choices[0].message.content
    assert again.usage == wanted.usage


def test_nulls_and_nothings_say_nothing(tiny_server: Served) -> None:
    more = {"functions": None, "reasoning_effort": None, "prediction": None, "tools": [], "top_logprobs": 0,
            "stream_options": None, "logit_bias": {}, "response_format": {"type": "text", "schema": None}}  # fmt: skip
    asks = {"messages": TALK, "max_tokens": 2, "temperature": 0}
    plain, beside = (tiny_server.post("/v1/chat/completions", **asks, **some)["choices"] for some in ({}, more))
    assert beside == plain


@pytest.mark.parametrize(
    ("more", "param"),
    [({"reasoning_effort": "low"}, "reasoning_effort"), ({"functions": [{}]}, "functions"),
     ({"tools": [{"type": "function"}]}, "tools"), ({"top_logprobs": 1}, "top_logprobs"),
     ({"messages": [*TALK, {"role": "assistant", "content": "a", "tool_calls": [{}]}]}, "messages.1.tool_calls"),
     ({"messages": [*TALK, {"role": "assistant", "content": "a", "audio": {"id": "x"}}]}, "messages.1.audio"),
     ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]},
      "messages.0.content.0.text.x"),
     ({"stream_options": {"x": 0}}, "stream_options.x"), ({"prediction": {}}, "prediction")],
)  # fmt: skip
def test_all_else_is_refused_by_its_name(tiny_server: Served, more: dict[str, Any], param: str) -> None:
    answer = tiny_server.client.post("/v1/chat/completions", json={"messages": TALK} | more)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("kind", "given", "where", "word"),
    [(Completion, [[-1]], "prompt.0.0", "greater"), (Completion, ["a", 1], "prompt.1", "string"),
     (Completion, [1, -1], "prompt.1", "greater"), (Completion, [[1], []], "prompt.1", "at least 1"),
     (Completion, [True], "prompt.0", "integer"), (Completion, [[1]] * 2000, "prompt", "at most 1024"),
     (Completion, 1, "prompt", "string"), (Embedding, ["a", {"type": "image_url"}], "input.1.image_url", "required"),
     (Embedding, ["a"] * 2000, "input", "at most 1024")],
)  # fmt: skip
def test_the_alternative_that_came_furthest_is_told(kind: type[Asked], given: Any, where: str, word: str) -> None:
    body = json.dumps({"input" if kind is Embedding else "prompt": given}).encode()
    with pytest.raises(ApiError, match=word) as raised:
        asked(kind, body)
    assert raised.value.param == where


@pytest.mark.parametrize("body", [b"", b"{", b'"\xff"', b'{"prompt":"\\ud800"}', b'{"prompt":NaN}', b"{} x",
                                  b'{"user":' + b"[" * 1000])  # fmt: skip
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        asked(Completion, body)
    assert raised.value.code == "invalid_json"


def test_the_official_client_reads_the_refusal(tiny_server: Served) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        tiny_server.openai.embeddings.create(model="tiny", input=[{}] * 50_000)  # type: ignore[list-item]
    assert raised.value.param == "input.0.type"
