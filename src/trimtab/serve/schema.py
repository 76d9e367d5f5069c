"""Requests as OpenAI's API has them, with a bound on everything; what cannot be honoured is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trimtab.core.errors import nearest
from trimtab.serve.errors import ApiError, bad

Word = Annotated[int, Field(ge=0, lt=2**31)]
Words = Annotated[list[Word], Field(min_length=1, max_length=1 << 20)]
Text = Annotated[str, Field(max_length=1 << 24)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Nothing = Annotated[list[Any], Field(max_length=0)] | None


class Asked(BaseModel):
    """Members that every request has; those of ``Ignored`` say nothing about the answer here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: Annotated[str, Field(max_length=256)] = ""
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Drawn(Asked):
    """How words are drawn. ``max_seconds``, our own, is a deadline below the server's."""

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
        ],
        Field(max_length=1024),
    ] | None = None  # fmt: skip
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    max_seconds: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Link(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    url: Annotated[str, Field(max_length=1 << 28)]
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["text"]
    text: Text


class ImagePart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["image_url"]
    image_url: Link


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=1024)]
    name: Annotated[str, Field(max_length=64)] | None = None
    refusal: None = None


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["text"]


class Chat(Drawn):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Nothing = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: Any = None


class Completion(Drawn):
    """``POST /v1/completions``."""

    prompt: Text | Words | list[Text] | list[Words]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: Literal[1] | None = None
    suffix: None = None


class Embedding(Asked):
    """``POST /v1/embeddings``. Beside texts and token ids, ``input`` takes pictures as chat's ``image_url`` parts."""

    input: Text | Words | Annotated[list[Text | Words | ImagePart], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


A = TypeVar("A", bound=Asked)


def asked(kind: type[A], body: bytes) -> A:
    """Raises ApiError 400, naming the first member that is wrong, for a body that is no such request. The text of the
    request is not repeated."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _told(kind, error) from None


def _told(kind: type[Asked], error: ValidationError) -> ApiError:
    row = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if row["type"] == "json_invalid":
        return bad(f"the body is no JSON: {row['msg'].partition(': ')[2] or row['msg']}", code="invalid_json")
    path = [str(one) for one in row["loc"] if isinstance(one, int) or str(one).isidentifier()]
    where = ".".join(path) or None
    if row["type"] == "extra_forbidden":
        name = path[-1] if path else "a member"
        return bad(f"{where}: not supported here{nearest(name, kind.model_fields)}", where, "unknown_parameter")
    return bad(f"{where or 'body'}: {row['msg']}", where)
