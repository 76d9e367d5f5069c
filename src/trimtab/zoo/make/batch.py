"""Packing: all questions of a picture in one sequence behind its image tokens, hidden from one another.

A sequence is ``<s> <image>*256`` and then, for each question, ``\\nQUESTION\\nANSWER</s>``. A question sees the prefix
and itself (causally), and its positions start again behind the prefix, so that each is computed exactly as if it stood
alone; the picture is paid for once. The loss and the accuracy look only at answer tokens. A greedy answer is right if
and only if every answer token is the argmax given the right ones before it, so accuracy needs no generation.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from trimtab.data import easyvqa
from trimtab.data.easyvqa import COLORS, SHAPES, Facts

Asked = tuple[str, str, str]  # kind, question, answer


@dataclass
class Packed:
    """ids, positions (b, t); mask (b, 1, t, t) True if seen; target (b, t) next token or -100; which (b, t) question.

    ``pixels`` (b, 3, h, w) in -1..1; ``kinds[b][q]`` names question q of picture b.
    """

    pixels: Tensor
    ids: Tensor
    positions: Tensor
    mask: Tensor
    target: Tensor
    which: Tensor
    kinds: list[list[str]]


def pixels(images: list[Image.Image], canvas: int) -> Tensor:
    """What the processor computes: bicubic resize, values in -1..1, (b, 3, canvas, canvas)."""
    sized = [np.asarray(image.convert("RGB").resize((canvas, canvas), Image.Resampling.BICUBIC)) for image in images]
    return torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


@cache
def _forms(palette: tuple[str, ...]) -> dict[tuple[Facts, str], list[Asked]]:
    """The published questions that apply to what a picture shows and name no colour outside ``palette``, by kind."""
    forms: dict[tuple[Facts, str], list[Asked]] = {}
    outside = set(COLORS) - set(palette)
    asked = sorted({q for q, _, _ in easyvqa.questions("train") if not outside & set(q.rstrip("?").split())})
    for seen in (Facts(shape, color) for shape in SHAPES for color in COLORS):
        for question in asked:
            given = easyvqa.answer(question, seen)
            if given is not None:
                kind = "shape" if given in SHAPES else "color" if given in COLORS else given
                words = set(question.rstrip("?").split())
                topic = "shape" if words & set(SHAPES) else "color"
                shown = words & {seen.shape, seen.color}
                name = kind if kind in ("shape", "color") else f"{topic}/{'there' if shown else 'absent'}"
                forms.setdefault((seen, name), []).append((name, question, given))
    return forms


def ask_single(seen: Facts, count: int, rng: random.Random, palette: tuple[str, ...] = COLORS) -> list[Asked]:
    """``count`` published questions about one picture. Half of the yes/no ones name what is there: in the data seven of
    eight colours asked for are absent, so that "absent" is a good guess, and comparing was not learnt for 400 steps."""
    names = ["shape", "color", "shape/there", "shape/absent", "color/there", "color/absent"]
    weights = [6, 5, 9, 9, 35, 36]
    return [rng.choice(_forms(palette)[seen, name]) for name in rng.choices(names, weights, k=count)]


def pack(
    images: list[Image.Image], asked: list[list[Asked]], words: PreTrainedTokenizerFast, canvas: int, patches: int
) -> Packed:
    """Pictures with their questions as one padded batch."""
    image_id, end = words.convert_tokens_to_ids("<image>"), words.eos_token_id
    prefix = [words.bos_token_id] + [image_id] * patches
    rows = []
    for questions in asked:
        ids, where, target, which = list(prefix), list(range(len(prefix))), [-100] * len(prefix), [-1] * len(prefix)
        for number, (_, question, given) in enumerate(questions):
            before = words(f"\n{question}\n", add_special_tokens=False)["input_ids"]
            after = [*words(given, add_special_tokens=False)["input_ids"], end]
            whole = before + after
            ids += whole[:-1]  # the end token is only predicted
            target += [-100] * (len(before) - 1) + after
            where += range(len(prefix), len(prefix) + len(whole) - 1)
            which += [number] * (len(whole) - 1)
        rows.append((ids, where, target, which))
    longest = max(len(row[0]) for row in rows)

    def pad(column: int, value: int) -> Tensor:
        return torch.tensor([row[column] + [value] * (longest - len(row[column])) for row in rows])

    which = pad(3, -2)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    together = (which[:, None, :] == -1) | (which[:, :, None] == which[:, None, :])
    return Packed(
        pixels(images, canvas), pad(0, words.pad_token_id), pad(1, 0), (causal & together)[:, None], pad(2, -100),
        which, [[kind for kind, _, _ in questions] for questions in asked],
    )  # fmt: skip


def forward(net: LlavaForConditionalGeneration, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
    """Image features (b, patches, width), logits (n, vocab) and targets (n,) at the n answer positions."""
    features = net.model.vision_tower(pixel_values=packed.pixels).last_hidden_state[:, 1:]
    embedded = net.model.language_model.embed_tokens(packed.ids)
    projected = net.model.multi_modal_projector(features)
    inputs = torch.cat([embedded[:, :1], projected.to(embedded.dtype), embedded[:, 1 + projected.shape[1] :]], 1)
    hidden = net.model.language_model(
        inputs_embeds=inputs, attention_mask=packed.mask,
        position_ids=packed.positions, use_cache=False,
    ).last_hidden_state  # fmt: skip
    asked = packed.target != -100
    return features, net.lm_head(hidden[asked]), packed.target[asked]


@torch.no_grad()
def score(net: LlavaForConditionalGeneration, packed: Packed) -> list[tuple[str, bool]]:
    """(kind, answered exactly) for every question of the batch."""
    _, logits, target = forward(net, packed)
    right = torch.full(packed.target.shape, True)
    asked = packed.target != -100
    right[asked] = logits.argmax(-1) == target
    found = []
    for row, kinds in enumerate(packed.kinds):
        found += [(kind, bool(right[row][packed.which[row] == q].all())) for q, kind in enumerate(kinds)]
    return found
