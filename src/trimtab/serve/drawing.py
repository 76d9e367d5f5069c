"""The next word from logits: greedily, or drawn by a generator of the request's own seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessorList

Rules = Callable[[int], LogitsProcessorList]


@dataclass(frozen=True)
class Wish:
    """How words of one answer are drawn, and when it ends: after ``most`` words, or a text of ``stops``. ``top``: so
    many of the likeliest words are told with each, None for no log probabilities. ``echo``: the prompt is told too."""

    most: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    presence: float = 0.0
    frequency: float = 0.0
    bias: Mapping[int, float] = field(default_factory=dict)
    top: int | None = None
    echo: bool = False


class Drawing:
    """``wish`` at work on one answer. ``rules``: what the model's own generation config does to logits in ``generate``
    (a repetition penalty, say), for a prompt of so many tokens."""

    def __init__(self, wish: Wish, rules: Rules, prompt: Tensor) -> None:
        self.wish, self.said, self.prompt = wish, Counter[int](), prompt
        self.rules = rules(prompt.shape[1])
        self.random = torch.Generator()
        if wish.seed is None:
            self.random.seed()
        else:
            self.random.manual_seed(wish.seed)

    def next(self, logits: Float[Tensor, " words"], words: Sequence[int]) -> int:
        """The word behind ``words``, which were said so far."""
        shaped = self.shaped(logits, words)
        token = int(shaped.argmax()) if self.wish.temperature == 0 else self._drawn(shaped)
        self.said[token] += 1
        return token

    def shaped(self, logits: Float[Tensor, " words"], words: Sequence[int]) -> Float[Tensor, " words"]:
        """z_j + bias_j - c_j frequency - (c_j > 0) presence, c_j: how often j was said (OpenAI's formula)."""
        wish = self.wish
        if self.rules:
            ids = torch.cat([self.prompt, torch.tensor([list(words)], dtype=torch.long)], 1)
            logits = self.rules(ids, logits[None].float().clone())[0]
        if not wish.bias and not (self.said and (wish.presence or wish.frequency)):
            return logits
        made = logits.float().clone()
        for token, bias in wish.bias.items():
            made[token] += bias
        for token, count in self.said.items() if wish.presence or wish.frequency else ():
            made[token] -= count * wish.frequency + wish.presence
        return made

    def _drawn(self, logits: Float[Tensor, " words"]) -> int:
        """From softmax(z / temperature), of the fewest words whose probabilities reach top_p (Holtzman et al. 2020)."""
        made = logits.double()
        chances = torch.softmax((made - made.max()) / self.wish.temperature, -1)  # finite at any temperature
        if self.wish.top_p < 1:
            values, order = chances.sort(descending=True, stable=True)
            values[values.cumsum(0) - values >= self.wish.top_p] = 0
            return int(order[torch.multinomial(values, 1, generator=self.random)])
        return int(torch.multinomial(chances, 1, generator=self.random))


def rules_of(library: Any) -> Rules:
    """What ``generate`` does to logits by the model's own generation config when it decodes greedily."""
    config = GenerationMixin._prepare_generation_config(library, None, do_sample=False, num_beams=1)[0]
    library._prepare_special_tokens(config, kwargs_has_attention_mask=True, device="cpu")

    def rules(length: int) -> LogitsProcessorList:
        found: LogitsProcessorList = library._get_logits_processor(deepcopy(config), input_ids_seq_length=length)
        return found

    return rules


def ends_of(library: Any) -> frozenset[int]:
    """Words behind which nothing comes."""
    found = library.generation_config.eos_token_id
    return frozenset([found] if isinstance(found, int) else found or ())
