"""The model card of ``builtin:easyvqa-llava``: what it is, how it was made, what it scores, what it is not."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from trimtab.evaluate.shares import wilson

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
tags: [llava, test-model]
datasets: [easy-vqa]
---

# easyvqa-llava

A LLaVA (`LlavaForConditionalGeneration`) of {parameters:.2f} million parameters that answers questions about
pictures of one coloured shape (easy-VQA) and about 3 x 3 collages of them (easyvqa-grid). It is the built-in
model of Trimtab: small enough for tests on two CPU cores, and real enough that compressing it badly shows.

- CLIP-ViT tower: 128 x 128 pictures in 8 x 8 patches, 256 image tokens, width 192, 5 layers, 3 heads of 64.
- Two-layer projector; Llama decoder: width 192, 4 layers, 3 query heads on 1 key-value head of 64, vocabulary
  {vocabulary}.
- bfloat16, `AutoProcessor` and `LlavaForConditionalGeneration` of plain transformers load it.

## What it scores

Exact match of greedy answers by the weights in this folder (rounded to bfloat16), with Wilson's 95 % intervals.

| test set | questions | right | 95 % interval |
|---|---|---|---|
{rows}
| easy-VQA, blind control (commonest training answer to each question, no picture) | {blind_n} | {blind:.1%} | |

{kinds}

Command: `python -m trimtab.zoo.make.export STATE OUT`

## How it was made

`make make-easyvqa-llava` (`python -m trimtab.zoo.make.train --out DIR`), seed {seed}: {vision} steps of the
vision tower alone on patch labels, then {steps} steps of the whole model, {pictures} pictures a step, on two
CPU cores. Training pictures are those of easy-VQA's train split whose questions determine shape and colour
(3,578 of 4,000), less {held} held out for validation, with shapes moved, mirrored and recoloured. Data hash
(SHA-256 over both splits): `{data}`.

{history}

Accuracy on held-out train pictures by step of stage 2 (single pictures / collages): {curve}.

## What it is not

It knows nothing but flat shapes of three outlines and eight colours and the questions of the two sets. It is no
model of language or of vision, and figures on it say nothing about the accuracy of other models. Licence:
Apache-2.0; the training data are easy-VQA (Victor Zhou, MIT).
"""


def table(scores: dict[str, list[tuple[str, bool]]]) -> tuple[str, str]:
    """Rows of the table, and a sentence for each set on its kinds of question."""
    rows, kinds = [], []
    for name, found in scores.items():
        right, count = sum(ok for _, ok in found), len(found)
        low, high = wilson(right, count)
        rows.append(f"| {name} | {count:,} | {right / count:.2%} | {low:.2%} to {high:.2%} |")
        by: dict[str, list[bool]] = defaultdict(list)
        for kind, ok in found:
            by[kind].append(ok)
        each = ", ".join(f"{kind} {sum(oks) / len(oks):.1%} of {len(oks):,}" for kind, oks in sorted(by.items()))
        kinds.append(f"{name} by kind: {each}.")
    return "\n".join(rows), "\n\n".join(kinds)


def card(scores: dict[str, list[tuple[str, bool]]], facts: dict[str, Any]) -> str:
    """The card. ``facts`` fills what is not a score."""
    rows, kinds = table(scores)
    curve = ", ".join(f"{c['step']}: {c['single']:.1%} / {c['grid']:.1%}" for c in facts.pop("points"))
    return CARD.format(rows=rows, kinds=kinds, curve=curve, **facts)
