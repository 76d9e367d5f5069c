"""What members of a request may be, each with a bound. Lists and dictionaries stop at their first error: pydantic would
make one for every element, and for every alternative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WrapValidator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from trimtab.core.errors import nearest
from trimtab.serve.reading import SHOWN, SIGNS

BIASES, MESSAGES, PARTS, PROMPTS = 1024, 10_000, 1024, 1024
"""Of one request, at most: tokens in ``logit_bias``, messages, parts of a message, prompts before the server's own
limit on them is asked."""


def _one_by_one(found: Any, each: Callable[[Any], dict[str, float]]) -> Any:
    """A dictionary up to its first error, as ``fail_fast`` lists."""
    if not isinstance(found, dict):
        return each(found)
    if len(found) > BIASES:
        raise PydanticKnownError("too_long", {"field_type": "Dictionary", "max_length": BIASES,
                                              "actual_length": len(found)})  # fmt: skip
    return {key: value for pair in found.items() for key, value in each(dict([pair])).items()}


Word = Annotated[int, Field(ge=0, lt=2**31)]
Words = Annotated[list[Word], Field(fail_fast=True, min_length=1, max_length=SIGNS)]
Text = Annotated[str, Field(max_length=1 << 24)]
Prompts = Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=PROMPTS)]
PromptsOfWords = Annotated[list[Words], Field(fail_fast=True, min_length=1, max_length=PROMPTS)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Stops = Annotated[list[Stop], Field(fail_fast=True, max_length=16)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Biases = Annotated[dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Bias], Field(max_length=BIASES),
                   WrapValidator(_one_by_one)]  # fmt: skip
Nothing = Annotated[list[Any], Field(max_length=0)] | None
Ignored = Annotated[Any, BeforeValidator(lambda _: None)]
"""What says nothing about the answer here, and is not kept."""


class Given(BaseModel):
    """An object of a request."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, json_schema_extra={"additionalProperties": {"type": "null"}}
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, found: Any) -> Any:
        """Without the unknown members that are null; the first one that is not is the only error."""
        if not isinstance(found, dict):
            return found
        for name, value in found.items():
            if value is not None and name not in cls.model_fields:
                name = str(name)[:SHOWN]
                near = nearest(name, cls.model_fields)
                raise PydanticCustomError("unknown", "not supported here{near}", {"name": name, "near": near})
        return {name: value for name, value in found.items() if name in cls.model_fields}
