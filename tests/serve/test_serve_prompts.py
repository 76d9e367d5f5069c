"""What a system or a developer says is never lost, and texts that are too long are not read whole."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from serving import entry as entry_of
from serving import served, talking, words

from trimtab.load.builtin import builtin_folder
from trimtab.load.processors import open_processors
from trimtab.serve.embed import ids_of
from trimtab.serve.errors import ApiError
from trimtab.serve.lengths import over
from trimtab.serve.prompts import of_chat, of_text, written
from trimtab.serve.schema import Message

QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}{%- endif %}{%- for message in messages %}"
    "{%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or "
    "(message.role == 'assistant' and not message.tool_calls) %}{{- '<|im_start|>' + message.role + '\n' + "
    "message.content + '<|im_end|>' + '\n' }}{%- endif %}{%- endfor %}"
)
GEMMA = (
    "{%- if messages[0]['role'] == 'system' %}{%- set first = messages[0]['content'] | trim + '\n\n' %}"
    "{%- set rest = messages[1:] %}{%- else %}{%- set first = '' %}{%- set rest = messages %}{%- endif %}"
    "{%- for message in rest %}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('Conversation roles must alternate') }}{%- endif %}{{- '<turn>' + message['role'] + '\n' + "
    "(first if loop.first else '') + message['content'] | trim }}{%- endfor %}"
)
ALL = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
QUOTED = "{% for m in messages %}<{{ m.role }}>{{ m.content | tojson }}{% endfor %}"
DEAF = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
PARTS = ("{% for m in messages if m.role != 'developer' %}<{{ m.role }}>{% for part in m.content %}"
         "{{ part.text if part.type == 'text' else '<i>' }}{% endfor %}{% endfor %}")  # fmt: skip
FIRST = "{% for m in messages %}<{{ m.role }}>{{ m.content[0].text }}{% endfor %}"


def talk(*said: tuple[str, Any]) -> list[Message]:
    return [Message.model_validate({"role": role, "content": content}) for role, content in said]


def shown(template: str, *said: tuple[str, Any]) -> str:
    tokenizer = words()
    tokenizer.chat_template = template
    return written(tokenizer, talk(*said))[0]


def test_a_developer_is_a_system_where_the_template_knows_none() -> None:
    user = ("user", "hi")
    for template in (QWEN, GEMMA):
        found = shown(template, ("developer", ' In "French", hi\n'), user)
        assert 'In "French", hi' in found
        assert found == shown(template, ("system", ' In "French", hi\n'), user)
    assert shown(ALL, ("developer", "a"), user) == "<developer>a<user>hi"
    assert shown(QUOTED, ("developer", 'a "b"\n'), user) == '<developer>"a \\"b\\"\\n"<user>"hi"'


def test_a_text_that_stands_elsewhere_too_is_not_taken_for_the_developers() -> None:
    assert "system\nhi<" in shown(QWEN, ("developer", "hi"), ("user", "say hi"))
    assert shown(QWEN, ("user", "a"), ("developer", "b")).count("<|im_start|>") == 3


@pytest.mark.parametrize(
    ("template", "said", "at"),
    [(DEAF, [("system", "a"), ("user", "a")], 0), (DEAF, [("developer", "a"), ("user", "a")], 0),
     (GEMMA, [("system", "a"), ("system", "b"), ("user", "c")], None),
     (DEAF, [("user", "a"), ("system", " "), ("developer", "b")], 2)],
)  # fmt: skip
def test_what_a_template_has_no_place_for_is_refused(
    template: str, said: list[tuple[str, str]], at: int | None
) -> None:
    with pytest.raises(ApiError) as raised:
        shown(template, *said)
    assert raised.value.status == 400
    assert raised.value.param == ("messages" if at is None else f"messages.{at}")


def test_blank_texts_and_conversations_without_a_system_are_never_refused() -> None:
    assert shown(DEAF, ("system", " \n"), ("user", "a"), ("assistant", "b")) == "a"


def test_every_part_counts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    seeing = words()
    seeing.image_processor = None
    seeing.chat_template = PARTS
    assert written(seeing, talk(("developer", parts), ("user", "c")))[0] == "<system>ab<user>c"
    seeing.chat_template = FIRST
    with pytest.raises(ApiError, match=r"messages\.0.*no place for this system message"):
        written(seeing, talk(("system", parts), ("user", "c")))


class Counting:
    """A tokenizer, and how many characters it read."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.read = tokenizer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, text: Any = None, **more: Any) -> Any:
        self.read += len(text if isinstance(text, str) else text[0])
        return self.tokenizer(text, **more)


@pytest.fixture(scope="module")
def by_bytes() -> Any:
    return open_processors(builtin_folder("easyvqa-llava")).tokenizer


def test_a_text_that_is_far_too_long_is_not_read_whole() -> None:
    loaded = talking()
    loaded.processor = counting = Counting(loaded.tokenizer)
    text = "w5 w90 " * 300_000
    with pytest.raises(ApiError, match="more than 100 tokens; accepted: at most 100") as raised:
        of_text(loaded, text, 100)
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(ApiError, match="more than 100 tokens"):
        of_chat(loaded, talk(("user", text)), [], 100)
    assert counting.read < len(text) / 100
    loaded.tokenizer, loaded.processor = Counting(loaded.tokenizer), None
    most = loaded.library.config.max_position_embeddings
    with pytest.raises(ApiError, match=f"more than {most}"):
        ids_of(loaded, text, 4096)
    assert loaded.tokenizer.read < len(text) / 10


@pytest.mark.parametrize("seed", range(30))
def test_a_text_that_fits_is_never_too_long(seed: int, by_bytes: Any) -> None:
    """Whatever the vocabulary makes of it, at any length at which it fits."""
    draw = random.Random(seed)
    kinds = [
        "a" * 97,
        " " * 131,
        "\n\n\t",
        "what color is the shape? ",
        "é😀",
        "<image>",
        "w5 ",
        "中文",
        "\u0301",
        "x" * 900,
    ]
    text = "".join(draw.choice(kinds) for _ in range(draw.randrange(1, 1500)))
    for tokenizer in (by_bytes, words()):
        assert not over(tokenizer, text, len(tokenizer(text, add_special_tokens=False)["input_ids"]))


def test_blanks_and_unknown_words_may_be_as_long_as_they_like() -> None:
    counting = Counting(words())
    text = f"w5{' ' * 300_000}w6 {'?' * 300_000}"
    assert not over(counting, text, 5)
    assert counting.read < len(text) * 4 / 3


def test_over_http_it_is_the_known_error() -> None:
    with served(entry_of(talking())) as one:
        answer = one.client.post("/v1/completions", json={"prompt": "w5 " * 100_000})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_models_without_a_template_take_any_role() -> None:
    plain = SimpleNamespace(image_token="<i>", chat_template=None, image_processor=None)
    assert written(plain, talk(("developer", "a"), ("user", "b"))) == ("a\nb\n", True)
