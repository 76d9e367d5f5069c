"""Requests as OpenAI's API has them, with a bound on everything; what cannot be honoured is refused by name.

Members that are null say nothing, known or not: clients send back what they were sent, with all that it might have had.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from trimtab.serve.members import (
    MESSAGES,
    PARTS,
    PROMPTS,
    Biases,
    Given,
    Ignored,
    Nothing,
    Penalty,
    Prompts,
    PromptsOfWords,
    Stop,
    Stops,
    Text,
    Words,
)
from trimtab.serve.reading import parsed, told


class Asked(Given):
    """Members that every request has."""

    model: Annotated[str, Field(max_length=256)] = ""
    user: Ignored = None
    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None


class StreamOptions(Given):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Drawn(Asked):
    """How words are drawn. ``max_seconds``, our own, is a deadline below the server's."""

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Stops | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    max_seconds: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Link(Given):
    url: Annotated[str, Field(max_length=1 << 28)]
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(Given):
    type: Literal["text"]
    text: Text


class ImagePart(Given):
    type: Literal["image_url"]
    image_url: Link


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Given):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(fail_fast=True, max_length=PARTS)]
    name: Annotated[str, Field(max_length=64)] | None = None
    refusal: None = None
    annotations: Nothing = None
    tool_calls: Nothing = None


class ResponseFormat(Given):
    type: Literal["text"]


class Chat(Drawn):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), AfterValidator(lambda count: count or None)] | None = None
    response_format: ResponseFormat | None = None
    tools: Nothing = None
    functions: Nothing = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: Ignored = None


class Completion(Drawn):
    """``POST /v1/completions``."""

    prompt: Text | Words | Prompts | PromptsOfWords
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: Literal[1] | None = None
    suffix: None = None


Items = Annotated[list[Text | Words | ImagePart], Field(fail_fast=True, min_length=1, max_length=PROMPTS)]


class Embedding(Asked):
    """``POST /v1/embeddings``. Beside texts and token ids, ``input`` takes pictures as chat's ``image_url`` parts."""

    input: Text | Words | Items
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


A = TypeVar("A", bound=Asked)


def asked(kind: type[A], body: bytes) -> A:
    """Raises ApiError 400, naming the first member that is wrong, for a body that is no such request. The text of the
    request is not repeated."""
    try:
        return kind.model_validate(parsed(body))
    except ValidationError as error:
        wrong = told(error)
    raise wrong  # out here, so that it does not keep the body alive
