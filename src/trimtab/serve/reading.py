"""From the bytes of a body to values, and what is said of those that are wrong, in time and memory that are bounded by
the body's length times a small number."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from trimtab.serve.errors import ApiError, bad

SIGNS = 1 << 19
"""Commas, colons and opening brackets of a body, outside its texts. A value takes up to a hundred bytes once it is read
and two in the body, so without a bound 32 MB of ``{},{},`` become gigabytes. This many are 64 prompts of 8,000 ids, or
10,000 messages with all the members that clients send."""
SHOWN = 64
"""Characters of a member's name that an answer repeats."""


def above(signs: int) -> re.Pattern[bytes]:
    """What the beginning of a body with more signs than that matches. Possessive throughout: one pass, whatever it
    holds, and no object for any part of it."""
    return re.compile(rb'(?s)(?:(?:[^"{\[:,]++|"(?:[^"\\]++|\\.)*+"?)*+[{\[:,]){%d}+' % (signs + 1))


def parsed(body: bytes) -> Any:
    """The value. Raises ApiError 400 for what is no JSON, is nested too deeply, or has more values than SIGNS allow."""
    if sum(body.count(sign) for sign in (b",", b":", b"[", b"{")) > SIGNS and above(SIGNS).match(body):
        raise bad(f"body: more than {SIGNS} values; accepted: at most as many", code="too_many_values")
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        told = str(error)
    raise bad(f"the body is no JSON: {told}", code="invalid_json")


def told(error: ValidationError) -> ApiError:
    """Of the first member that is wrong, the error of the alternative that came furthest. The text of the request is
    not repeated. Lists stop at their first error, so there are few."""
    rows = error.errors(include_url=False, include_input=False)
    row = max((one for one in rows if one["loc"][:1] == rows[0]["loc"][:1]), key=_far)
    path = [
        str(one)[:SHOWN] for one in row["loc"] if isinstance(one, int) or (one.isidentifier() and not one[0].isupper())
    ]
    if row["type"] == "unknown":
        name = row["ctx"]["name"]
        where = ".".join([*path, *([name] if name.isidentifier() else [])]) or None
        return bad(f"{where or 'a member'}: {row['msg']}", where, "unknown_parameter")
    where = ".".join(path) or None
    message = row["msg"] if row["type"] != "union_tag_invalid" else f"accepted: {row['ctx']['expected_tags']}"
    return bad(f"{where or 'body'}: {message}", where)


def _far(row: ErrorDetails) -> tuple[list[float], int]:
    """By the elements that were taken; all that are allowed, where there are too many."""
    places = [float(one) for one in row["loc"] if isinstance(one, int)]
    return [*places, *([math.inf] if row["type"] == "too_long" else [])], len(row["loc"])
