"""Log probabilities of words, as OpenAI's two kinds of answer show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.serve.words import Spelling


@dataclass(frozen=True)
class Chance:
    """``token`` with log p of it, and the likeliest ones by id; None of either at the first word of a prompt.
    ``at``: where its text begins in the answer."""

    token: int
    logprob: float | None
    best: tuple[tuple[int, float], ...] = ()
    at: int = 0


def chance(logits: Float[Tensor, " words"], token: int, top: int, at: int = 0) -> Chance:
    """log softmax of the model's own ``logits``, before temperature and penalties. NaN (the place was dropped by a
    policy) gives None."""
    return chances(logits[None], [token], top, at)[0]


def chances(logits: Float[Tensor, "rows words"], tokens: Sequence[int], top: int, at: int = 0) -> list[Chance]:
    """The same for several rows."""
    found = logits.float().log_softmax(-1)
    own = found.gather(1, torch.tensor([list(tokens)]).T)[:, 0].tolist()
    best = found.topk(min(top, found.shape[1]), dim=-1) if top else None
    made = []
    for row, (token, mine) in enumerate(zip(tokens, own, strict=True)):
        if mine != mine:
            made.append(Chance(token, None, (), at))
            continue
        listed = () if best is None else tuple(zip(best.indices[row].tolist(), best.values[row].tolist(), strict=True))
        made.append(Chance(token, mine, listed, at))
    return made


def in_chat(spelled: Spelling, found: Sequence[Chance]) -> dict[str, Any]:
    """``logprobs`` of a chat's choice."""

    def one(token: int, logprob: float | None) -> dict[str, Any]:
        text, raw = spelled(token)
        return {"token": text, "logprob": -9999.0 if logprob is None else _finite(logprob),
                "bytes": None if raw is None else list(raw)}  # fmt: skip

    rows = [one(row.token, row.logprob) | {"top_logprobs": [one(*each) for each in row.best]} for row in found]
    return {"content": rows, "refusal": None}


def in_completion(spelled: Spelling, found: Sequence[Chance]) -> dict[str, Any]:
    """``logprobs`` of a completion's choice: as the older API has them, the word itself among the best of its place. Of
    several tokens of one spelling the likeliest is shown."""
    top: list[dict[str, float] | None] = []
    for row in found:
        if row.logprob is None:
            top.append(None)
            continue
        best: dict[str, float] = {}
        for token, logprob in (*row.best, (row.token, row.logprob)):
            text = spelled(token)[0]
            best[text] = max(_finite(logprob), best.get(text, -9999.0))
        top.append(best)
    return {
        "tokens": [spelled(row.token)[0] for row in found],
        "token_logprobs": [None if row.logprob is None else _finite(row.logprob) for row in found],
        "top_logprobs": top,
        "text_offset": [row.at for row in found],
    }


def _finite(value: float) -> float:
    """JSON has no infinity: what cannot be said at all is said to be very unlikely, as OpenAI's API does."""
    return max(value, -9999.0)
