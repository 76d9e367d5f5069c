"""Requests to llama.cpp's server, and what is read from its answers: the standard library is all that it takes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

GREEDY: dict[str, Any] = {"temperature": 0.0, "top_k": 1, "cache_prompt": True}
RAISED = 1000.0
"""Added to the logit of a token that is to be taken. The server tells probabilities as they were before."""


def post(address: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the server answers; without ``body`` it is only asked for. Raises RuntimeError where it refuses."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{path}: {error.read().decode()}") from error
    return found


def next_token(ids: Sequence[int], wanted: int) -> dict[str, Any]:
    """What follows ``ids``, where ``wanted`` is taken whatever the model says: its loss is told then, and so is what
    the model would have taken. ``ids`` are not cut into tokens anew, and no token is put before them."""
    return GREEDY | {"prompt": list(ids), "n_predict": 1, "n_probs": 1, "logit_bias": [[wanted, RAISED]]}


def scored(answer: dict[str, Any], wanted: int) -> tuple[float, int]:
    """The loss of ``wanted``, and the likeliest token. Raises RuntimeError where another token was taken."""
    [one] = answer["completion_probabilities"]
    if one["id"] != wanted:
        raise RuntimeError(f"token {wanted} was to be taken, and {one['id']} was")
    return -float(one["logprob"]), int(one["top_logprobs"][0]["id"])


def question(asked: dict[str, str], marker: str, longest: int) -> dict[str, Any]:
    """A question about a picture, ``prompt`` and ``picture`` (base64). ``placeholder`` stands in the prompt for the
    picture, ``marker`` does for the server, which draws another one whenever it starts and puts the file's first token
    before the text itself."""
    before, found, after = asked["prompt"].partition(asked["placeholder"])
    if not found or asked["placeholder"] in after:
        raise ValueError(f"prompt: one {asked['placeholder']!r} is needed, got {asked['prompt']!r}")
    prompt = {"prompt_string": before + marker + after, "multimodal_data": [asked["picture"]]}
    return GREEDY | {"prompt": prompt, "n_predict": longest}
