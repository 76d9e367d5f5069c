"""Perplexity of a language model on windows of a text, each scored alone, without a beginning-of-sequence token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.core.errors import Anomaly
from trimtab.core.reading import Reading
from trimtab.evaluate.student import t_quantile

ROWS = 32  # positions whose float32 log-softmax is in memory at once: 34 MB for a vocabulary of 262,144


def losses(
    model: Any, windows: Integer[Tensor, "windows length"], *, done: Mapping[int, float] | None = None
) -> Iterator[float]:
    """Mean of -log p(token | tokens before it in the window) over the window's length - 1 predictions, per window.

    The library's forward makes the logits of one window (length x vocabulary in the model's dtype: 268 MB for 512
    positions of 262,144 words in bfloat16), the log-softmax is float32 in chunks of ``ROWS`` positions. A model with
    cache policies reads the first half as its prompt and the rest token by token, as it does when it is served. Windows
    in ``done`` (by index) are handed on. Raises Anomaly where a loss is not finite.
    """
    for index, window in enumerate(windows):
        if done is not None and index in done:
            yield done[index]
            continue
        with torch.no_grad():
            ids = window[None].to(model.device)
            read = _served if getattr(model, "cached", False) else _at_once
            logits = read(model, ids)[0, :-1]
            loss = nll(logits, ids[0, 1:]) / (len(window) - 1)
        if not math.isfinite(loss):
            raise Anomaly(f"perplexity: the loss of window {index} is {loss}")
        yield loss


def _at_once(model: Any, ids: Integer[Tensor, "1 length"]) -> Float[Tensor, "1 length vocabulary"]:
    logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits


def _served(model: Any, ids: Integer[Tensor, "1 length"]) -> Float[Tensor, "1 length vocabulary"]:
    """Half of the window as a prompt, then one token after the other through the cache."""
    mask, half = torch.ones_like(ids), max(1, ids.shape[1] // 2)
    found = model(input_ids=ids[:, :half], attention_mask=mask[:, :half], use_cache=True)
    parts, cache = [found.logits], found.past_key_values
    for at in range(half, ids.shape[1]):
        here = slice(at, at + 1)
        found = model(input_ids=ids[:, here], attention_mask=mask[:, : at + 1], past_key_values=cache, use_cache=True)
        parts.append(found.logits)
    return torch.cat(parts, 1)


def nll(logits: Float[Tensor, "n vocabulary"], target: Integer[Tensor, " n"]) -> float:
    """Sum over rows of logsumexp(logits) - logits[target], float32 by chunks, summed in float64."""
    total = 0.0
    for begin in range(0, len(target), ROWS):
        rows = logits[begin : begin + ROWS].float()
        hit = rows.gather(1, target[begin : begin + ROWS, None])[:, 0]
        total += float((rows.logsumexp(1) - hit).double().sum())
    return total


def perplexity(name: str, found: Sequence[float]) -> Reading:
    """exp(mean loss), with Student's t interval over windows (of the logarithm). Raises ValueError without windows."""
    if not found:
        raise ValueError(f"{name}: no windows")
    n, mean = len(found), math.fsum(found) / len(found)
    if n < 2:
        return Reading(name, math.exp(mean), "perplexity", None, n, "estimated")
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in found) / (n - 1) / n)
    reach = t_quantile(0.975, n - 1) * error
    return Reading(name, math.exp(mean), "perplexity", (math.exp(mean - reach), math.exp(mean + reach)), n, "estimated")
