"""An export in GGUF by llama.cpp, through the server that its package runs in this process: on loopback, for those who
have its key."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from trimtab.core.errors import Refused
from trimtab.engines.base import Answer, Words

CONTEXT = 2304


class Llama:
    """``held``: the server, which ends with it. Its own clocks are read: it streams text, and holds back a word until
    the letters are whole."""

    def __init__(self, held: Any, key: str) -> None:
        self.held, self.key = held, key

    def likeliest(self, ids: Sequence[int], count: int) -> Words:
        told = self._asked({"prompt": list(ids), "n_predict": 1, "n_probs": count})
        return {one["id"]: one["logprob"] for one in told["completion_probabilities"][0]["top_logprobs"]}

    def answer(self, ids: Sequence[int], most: int, ends: Collection[int] = ()) -> Answer:
        """The end of a turn, which the file names, is the one where any is asked for."""
        told = self._asked({"prompt": list(ids), "n_predict": most, "return_tokens": True, "ignore_eos": not ends})
        clocks = told["timings"]
        return Answer(told["tokens"], clocks["prompt_ms"] / 1000, clocks["predicted_ms"] / 1000)

    def _asked(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What the server answers, greedily, without what it remembers. Raises Refused where it says no."""
        body = json.dumps({"temperature": 0.0, "top_k": 1, "cache_prompt": False} | asked).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(f"{self.held.listening_address}/completion", body, headers)
        try:
            with urllib.request.urlopen(request) as answer:
                found: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:  # a prompt that does not fit, say
            raise Refused(f"llama.cpp: {error.read().decode(errors='replace')}") from error
        return found


def open_session(path: Path) -> Llama:
    import xllamacpp

    params, key = xllamacpp.CommonParams(), secrets.token_hex()
    params.model.path, params.api_keys = str(next(path.glob("*.gguf"))), [key]
    params.n_ctx, params.n_parallel, params.n_gpu_layers = CONTEXT, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    return Llama(xllamacpp.Server(params), key)
