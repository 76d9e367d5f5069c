"""A slow reference of cache policies: lists of what each key head stores, entry by entry.

The library's own layers run over everything that ever came, one token at a time; a mask, written out element by element
from the lists, hides what a policy let go, and coded entries are overwritten by what their codes stand for. Attention
for policies that look at it is the library's eager one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

import oracle
from oracle import (
    Batch,
    Drop,
    angles,
    blocks_of,
    decoder_of,
    element_mask,
    embedded,
    headed,
    positions,
    untouched,
    window_of,
)


@dataclass
class Lane:
    """What one key head of one row stores of a layer: indices of tokens, in order; those in groups are codes."""

    groups: list[list[int]] = field(default_factory=list)
    plain: list[int] = field(default_factory=list)

    def stored(self) -> list[int]:
        return [index for group in self.groups for index in group] + self.plain

    def only(self, stay: set[int]) -> None:
        """A group goes with its last entry."""
        self.groups = [left for group in self.groups if (left := [i for i in group if i in stay])]
        self.plain = [i for i in self.plain if i in stay]


# (lane, keys (T, d) and values as they are read, attention of its query heads (heads, t, t) on the prompt, else None)
Rule = Callable[[Lane, Tensor, Tensor, "Tensor | None"], None]


def snap(capacity: int, window: int, kernel: int) -> Rule:
    """SnapKV, one entry at a time."""

    def rule(lane: Lane, k: Tensor, v: Tensor, attention: Tensor | None) -> None:
        if attention is None or len(lane.plain) <= capacity:
            return
        earlier, observing = lane.plain[:-window], lane.plain[-window:]
        score = [sum(float(head[i, j]) for head in attention for i in observing) for j in earlier]
        near = [range(max(0, at - kernel // 2), min(len(earlier), at + kernel // 2 + 1)) for at in range(len(earlier))]
        pooled = [sum(score[other] for other in beside) / kernel for beside in near]
        order = sorted(range(len(earlier)), key=lambda at: (-pooled[at], at))
        lane.plain = [earlier[at] for at in sorted(order[: capacity - window])] + observing

    return rule


def ends(sinks: int, window: int) -> Rule:
    """The first and the last, at every step; a group goes with its last entry."""

    def rule(lane: Lane, k: Tensor, v: Tensor, attention: Tensor | None) -> None:
        every = lane.stored()
        lane.only({*every[:sinks], *every[-window:]})

    return rule


def coded(bits: int, group_size: int, residual: int) -> Rule:
    """KIVI, one number at a time: whole groups of the oldest plain entries."""

    def rule(lane: Lane, k: Tensor, v: Tensor, attention: Tensor | None) -> None:
        while len(lane.plain) >= residual + group_size:
            group, lane.plain = lane.plain[:group_size], lane.plain[group_size:]
            lane.groups.append(list(group))
            for channel in range(k.shape[1]):
                k[group, channel] = rounded(k[group, channel], bits)
            span = group_size if v.shape[1] % group_size == 0 else v.shape[1]
            for token in group:
                for first in range(0, v.shape[1], span):
                    v[token, first : first + span] = rounded(v[token, first : first + span], bits)

    return rule


def rounded(x: Tensor, bits: int) -> Tensor:
    """Each number of ``x`` at the nearest of the steps between the least and the greatest, in single precision."""
    low, high = min(x.float().tolist()), max(x.float().tolist())
    scale = float(torch.tensor((high - low) / (2**bits - 1)).float()) or 1.0
    steps = [torch.tensor((one - low) / scale).round().item() for one in x.float().tolist()]
    return torch.tensor([low + scale * min(step, 2**bits - 1) for step in steps], dtype=x.dtype)


class Slow:
    """``logits`` (b, t, vocabulary) of the prompt; ``step`` adds one token to every row and answers (b, 1, vocabulary).

    ``lanes``: by (layer, row, key head).
    """

    def __init__(self, model: PreTrainedModel, batch: Batch, rules: Sequence[Rule], drops: Sequence[Drop] = ()) -> None:
        self.model, self.rules = untouched(model), rules
        self.stack = decoder_of(self.model)
        config = self.model.config.get_text_config()
        self.heads, self.each = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
        self.k: dict[int, Tensor] = {}
        self.v: dict[int, Tensor] = {}
        self.lanes: dict[tuple[int, int, int], Lane] = {}
        self.where = positions(batch["attention_mask"])
        self.next = self.where.amax(1) + 1
        self.logits = self._prompt(batch, drops)

    def update(self, k: Tensor, v: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """The library's cache call: nothing is ever freed here."""
        self.k[layer] = torch.cat([self.k[layer], k], 2) if layer in self.k else k.clone()
        self.v[layer] = torch.cat([self.v[layer], v], 2) if layer in self.v else v.clone()
        return self.k[layer], self.v[layer]

    def _prompt(self, batch: Batch, drops: Sequence[Drop]) -> Tensor:
        x, mask = embedded(self.model, batch), batch["attention_mask"].tolist()
        for index in range(len(self.stack.layers)):
            gone = [drop.gone for drop in drops if drop.layer <= index]
            seen = element_mask(mask, gone, blocks_of(self.model, batch), oracle.Rule(window_of(self.model, index)))
            attention = self._attention(index, x, seen)
            x = self._run(index, x, seen, self.where, self)
            for row, valid in enumerate(mask):
                there = [i for i, one in enumerate(valid) if one and not any(i in drop[row] for drop in gone)]
                for head in range(self.heads):
                    self.lanes[index, row, head] = Lane(plain=list(there))
            self._act(index, attention.unflatten(1, (self.heads, self.each)))
        return headed(self.model, x)

    def _run(self, index: int, x: Tensor, mask: Tensor, where: Tensor, cache: object) -> Tensor:
        found: Tensor = self.stack.layers[index](
            x, attention_mask=mask, position_embeddings=angles(self.stack, x, where, index), position_ids=where,
            past_key_values=cache,
        )  # fmt: skip
        return found

    def _attention(self, index: int, x: Tensor, seen: Tensor) -> Tensor:
        """The layer's attention weights (b, heads, t, t) by the library's eager mode."""
        found: list[Tensor] = []
        module = self.stack.layers[index].self_attn
        hook = module.register_forward_hook(lambda _, __, out: found.append(out[1]))
        self.model.set_attn_implementation("eager")
        self._run(index, x, torch.zeros(seen.shape, dtype=x.dtype).masked_fill(~seen, -1e30), self.where, None)
        self.model.set_attn_implementation("sdpa")
        hook.remove()
        return found[0]

    def _act(self, index: int, attention: Tensor | None) -> None:
        """Every rule on every lane of a layer."""
        for (layer, row, head), lane in self.lanes.items():
            for rule in self.rules if layer == index else ():
                seen = None if attention is None else attention[row, head]
                rule(lane, self.k[index][row, head], self.v[index][row, head], seen)

    def step(self, ids: Tensor) -> Tensor:
        """The next token of each row (b, 1)."""
        x, new = self.stack.embed_tokens(ids), self.where.shape[1]
        self.where = torch.cat([self.where, self.next[:, None]], 1)
        self.next = self.next + 1
        for index in range(len(self.stack.layers)):
            for lane in (self.lanes[index, row, head] for row in range(len(ids)) for head in range(self.heads)):
                lane.plain.append(new)
            x = self._run(index, x, self._seen(index, len(ids)), self.where[:, -1:], self)
            self._act(index, None)
        return headed(self.model, x)

    def _seen(self, index: int, rows: int) -> Tensor:
        """(b, heads, 1, T) True at what the newest token sees."""
        window = window_of(self.model, index) or math.inf
        seen = torch.zeros(rows, self.heads * self.each, 1, self.where.shape[1], dtype=torch.bool)
        for row in range(rows):
            for head in range(self.heads * self.each):
                for key in self.lanes[index, row, head // self.each].stored():
                    seen[row, head, 0, key] = int(self.where[row, -1] - self.where[row, key]) < window
        return seen


def greedy(slow: Slow, batch: Batch, steps: int, end: int, pad: int) -> Tensor:
    """Greedy decoding by the slow reference, as ``generate`` returns it."""
    said, logits = batch["input_ids"], slow.logits
    unfinished = torch.ones(len(said), dtype=torch.bool)
    for number in range(steps):
        best = torch.where(unfinished, logits[:, -1].argmax(-1), pad)
        unfinished &= best != end
        said = torch.cat([said, best[:, None]], 1)
        if not unfinished.any() or number == steps - 1:
            break
        logits = slow.step(best[:, None])
    return said
