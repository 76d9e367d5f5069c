"""From knobs to the steps of a recipe, and back where steps say no more than knobs can.

Rounding first (the word table and the head in groups of their own size), pruned parts next, what makes up for both,
then tokens and the cache, and last the adapter, so that it is trained on the tokens that are left. A knob at rest adds
no step, nor does one that has nothing to work on: a rank where no part lost anything, a layer that the token method
does not have. Points whose steps are the same are the same point (``key``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab import methods
from trimtab.run.recipe import Step

Choice = int | float | str
Values = Mapping[str, Choice]
Steps = list[dict[str, Any]]

WHOLE = 16
"""Bits at which nothing is rounded."""
NONE = "none"
TABLES = ("embedding", "head")
LESSONS, RATE = 512, 1e-3
"""Samples that an adapter is trained on, once each, and its learning rate: seconds on a small model, not an hour."""
WINDOW, RESIDUAL = 8, 32
"""Tokens at a prompt's end that choose what of the cache stays; newest entries that are kept as they are. The methods'
own defaults (32 and 128) are all that a short prompt has left once its picture is trimmed."""


@dataclass(frozen=True)
class Shape:
    """``parts`` of the model that have matrices; ``text`` and ``image`` tokens of one prompt, before any is dropped."""

    parts: tuple[str, ...]
    text: int
    image: int

    @property
    def layers(self) -> tuple[str, ...]:
        """The parts that are no tables."""
        return tuple(part for part in self.parts if part not in TABLES)


def steps(values: Values, shape: Shape) -> Steps:
    """The steps of a point, as plain recipe data."""
    changed = [part for part in shape.layers if bits(values, part) != WHOLE or pattern(values, part) != NONE]
    made = [*_rounded(values, shape), *_pruned(values, shape)]
    if values.get("rank") and changed:
        made.append({"eora": {"r": values["rank"], "targets": changed}})
    made += [*_tokens(values), *_cache(values, shape)]
    if values.get("adapter.r") and made:
        made.append({"lora": lessons(int(values["adapter.r"]))})
    return made


def lessons(rank: int) -> dict[str, Any]:
    """The knobs of an adapter of that rank."""
    return {"r": rank, "lora_alpha": 2 * rank, "target_modules": ["language"], "epochs": 1, "num_samples": LESSONS,
            "learning_rate": RATE, "validation": 0.0}  # fmt: skip


def pattern(values: Values, part: str) -> Choice:
    """What is kept of a part's weights, ``NONE`` where all are."""
    return values.get(f"sparsity.{part}", NONE)


def bits(values: Values, part: str) -> int:
    """The bits of a part, ``WHOLE`` where it is pruned: no method rounds what a mask stands on."""
    name = "bits.tables" if part in TABLES else f"bits.{part}"
    return WHOLE if pattern(values, part) != NONE else int(values.get(name, WHOLE))


def _rounded(values: Values, shape: Shape) -> Iterator[dict[str, Any]]:
    """One step for all parts of the same bits and groups, tables before layers."""
    groups: dict[tuple[int, int], list[str]] = {}
    for part in sorted(shape.parts, key=lambda part: part not in TABLES):
        if bits(values, part) != WHOLE:
            size = values["group_size.tables" if part in TABLES else "group_size"]
            groups.setdefault((bits(values, part), int(size)), []).append(part)
    for (width, size), on in groups.items():
        yield {str(values["method"]): {"bits": width, "group_size": size, "targets": on}}


def _pruned(values: Values, shape: Shape) -> Iterator[dict[str, Any]]:
    kinds: dict[Choice, list[str]] = {}
    for part in shape.layers:
        kinds.setdefault(pattern(values, part), []).append(part)
    for kind, on in kinds.items():
        if kind != NONE:
            n, m = (int(one) for one in str(kind).split(":"))
            yield {"wanda": {"keep": n / m, "pattern": kind, "targets": on}}


def _tokens(values: Values) -> Iterator[dict[str, Any]]:
    keep = float(values.get("tokens.keep", 1))
    if keep != 1:
        method = str(values["tokens.method"])
        yield {method: {"keep": keep} | ({"layer": values["tokens.layer"]} if method == "fastv" else {})}


def _cache(values: Values, shape: Shape) -> Iterator[dict[str, Any]]:
    keep, width = float(values.get("cache.keep", 1)), int(values.get("cache.bits", WHOLE))
    if keep != 1:
        entries = shape.text + shape.image * float(values.get("tokens.keep", 1))
        yield {"snapkv": {"capacity": max(WINDOW + 1, round(keep * entries)), "window": WINDOW}}
    if width != WHOLE:
        yield {"kivi": {"bits": width, "residual": RESIDUAL}}


def key(given: Sequence[Mapping[str, Any] | Step]) -> str:
    """Equal for steps that do the same: defaults written out, targets in order."""
    rows = []
    for one in given:
        step = one if isinstance(one, Step) else Step.model_validate(one)
        knobs = methods.knobs(methods.make(step.method, step.knobs))
        where = sorted(step.targets) if step.targets is not None else None
        rows.append([step.method, knobs, where, sorted(step.ignore)])
    return json.dumps(rows, sort_keys=True)


def fitted(given: Sequence[Step]) -> int:
    """How many of the first steps change weights, policies in between included: what is worth remembering."""
    last = [index for index, one in enumerate(given, 1) if methods.get(one.method).CARD.family not in POLICIES]
    return max(last, default=0)


POLICIES = ("tokens", "cache")
"""Families that change what the loop does and no weight."""
