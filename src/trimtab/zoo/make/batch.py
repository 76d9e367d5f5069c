"""Packing: all questions of a picture in one sequence behind its image tokens, hidden from one another.

A sequence is ``<s> <image>*256`` and then, for each question, ``\\nQUESTION\\nANSWER</s>``. A question sees the prefix
and itself (causally), and its positions start again behind the prefix, so that each is computed exactly as if it stood
alone; the picture is paid for once. The loss and the accuracy look only at answer tokens. A greedy answer is right if
and only if every answer token is the argmax given the right ones before it, so accuracy needs no generation.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
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

    ``counts`` (b, t): at a colour or shape word of a question, how many shapes of the picture are so, elsewhere -100.
    ``pixels`` (b, 3, h, w) in -1..1; ``kinds[b][q]`` names question q of picture b.
    """

    pixels: Tensor
    ids: Tensor
    positions: Tensor
    mask: Tensor
    target: Tensor
    which: Tensor
    counts: Tensor
    kinds: list[list[str]]


def pixels(images: list[Image.Image], canvas: int) -> Tensor:
    """What the processor computes: bicubic resize, values in -1..1, (b, 3, canvas, canvas)."""
    sized = [np.asarray(image.convert("RGB").resize((canvas, canvas), Image.Resampling.BICUBIC)) for image in images]
    return torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


@cache
def _forms() -> dict[tuple[Facts, str], list[Asked]]:
    """The published questions that apply to what a picture shows, by kind."""
    forms: dict[tuple[Facts, str], list[Asked]] = {}
    asked = sorted({question for question, _, _ in easyvqa.questions("train")})
    for seen in (Facts(shape, color) for shape in SHAPES for color in COLORS):
        for question in asked:
            given = easyvqa.answer(question, seen)
            if given is not None:
                kind = "shape" if given in SHAPES else "color" if given in COLORS else given
                words = set(question.rstrip("?").split())
                topic = "shape" if words & set(SHAPES) else "color"
                shown = words & {seen.shape, seen.color}
                form = "negated" if words & {"not", "no"} else "plain"
                name = kind if kind in SHARES else f"{topic}/{'there' if shown else 'absent'}/{form}"
                forms.setdefault((seen, name), []).append((name, question, given))
    return forms


# Kind of question on a single picture -> its share in training. In the data seven of eight colours asked for are
# absent, so that "absent" is a good guess: here half of them are there. And half of the forms are negated, which makes
# the answer an exclusive or of two things, of which neither alone says anything: plain forms are asked more.
SHARES = {
    "shape": 9, "color": 7,
    "shape/there/plain": 6, "shape/there/negated": 6, "shape/absent/plain": 6, "shape/absent/negated": 6,
    "color/there/plain": 22, "color/there/negated": 8, "color/absent/plain": 22, "color/absent/negated": 8,
}  # fmt: skip


def ask_single(seen: Facts, count: int, rng: random.Random) -> list[Asked]:
    """``count`` published questions about one picture, of kinds drawn by ``SHARES``."""
    return [
        rng.choice(_forms()[seen, name]) for name in rng.choices(list(SHARES), weights=list(SHARES.values()), k=count)
    ]


def pack(
    images: list[Image.Image],
    asked: list[list[Asked]],
    words: PreTrainedTokenizerFast,
    canvas: int,
    patches: int,
    shown: Sequence[tuple[Facts, ...]] = (),
) -> Packed:
    """Pictures with their questions as one padded batch. ``shown``: what each picture shows, for ``counts``."""
    image_id, end = words.convert_tokens_to_ids("<image>"), words.eos_token_id
    prefix = [words.bos_token_id] + [image_id] * patches
    rows, names = [], {words.convert_tokens_to_ids(f"\u0120{name}"): name for name in (*COLORS, *SHAPES)}
    for row, questions in enumerate(asked):
        seen = [word for one in shown[row] for word in one] if shown else []
        counts = [-100] * len(prefix)
        ids, where, target, numbers = list(prefix), list(range(len(prefix))), [-100] * len(prefix), [-1] * len(prefix)
        for number, (_, question, given) in enumerate(questions):
            before = words(f"\n{question}\n", add_special_tokens=False)["input_ids"]
            after = [*words(given, add_special_tokens=False)["input_ids"], end]
            whole = before + after
            ids += whole[:-1]  # the end token is only predicted
            named = [names.get(one) for one in before] + [None] * (len(after) - 1)
            counts += [seen.count(name) if seen and name else -100 for name in named]
            target += [-100] * (len(before) - 1) + after
            where += range(len(prefix), len(prefix) + len(whole) - 1)
            numbers += [number] * (len(whole) - 1)
        rows.append((ids, where, target, numbers, counts))
    longest = max(len(row[0]) for row in rows)

    def pad(column: int, value: int) -> Tensor:
        return torch.tensor([row[column] + [value] * (longest - len(row[column])) for row in rows])

    which: Tensor = pad(3, -2)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    together = (which[:, None, :] == -1) | (which[:, :, None] == which[:, None, :])
    return Packed(
        pixels(images, canvas), pad(0, words.pad_token_id), pad(1, 0), (causal & together)[:, None], pad(2, -100),
        which, pad(4, -100), [[kind for kind, _, _ in questions] for questions in asked],
    )  # fmt: skip


def forward(net: LlavaForConditionalGeneration, packed: Packed) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image features (b, patches, width), logits (n, vocab) and targets (n,) at the n answer positions, and the hidden
    states half-way up the language model (b, t, width)."""
    features = net.model.vision_tower(pixel_values=packed.pixels).last_hidden_state[:, 1:]
    embedded = net.model.language_model.embed_tokens(packed.ids)
    projected = net.model.multi_modal_projector(features)
    inputs = torch.cat([embedded[:, :1], projected.to(embedded.dtype), embedded[:, 1 + projected.shape[1] :]], 1)
    found = net.model.language_model(
        inputs_embeds=inputs, attention_mask=packed.mask,
        position_ids=packed.positions, use_cache=False, output_hidden_states=True,
    )  # fmt: skip
    half = found.hidden_states[len(net.model.language_model.layers) // 2]
    asked = packed.target != -100
    return features, net.lm_head(found.last_hidden_state[asked]), packed.target[asked], half


@torch.no_grad()
def score(net: LlavaForConditionalGeneration, packed: Packed) -> list[tuple[str, bool]]:
    """(kind, answered exactly) for every question of the batch."""
    _, logits, target, _ = forward(net, packed)
    right = torch.full(packed.target.shape, True)
    asked = packed.target != -100
    right[asked] = logits.argmax(-1) == target
    found = []
    for row, kinds in enumerate(packed.kinds):
        found += [(kind, bool(right[row][packed.which[row] == q].all())) for q, kind in enumerate(kinds)]
    return found
