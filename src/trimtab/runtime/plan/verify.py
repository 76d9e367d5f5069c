"""Whether a plan answers as the model that it was made of: layer by layer, against the library's own in float32."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from trimtab.anatomy.base import placed
from trimtab.core.linear import Host, Linear
from trimtab.core.stats import TEXT
from trimtab.core.weight import rows
from trimtab.runtime.plan.engine import Engine
from trimtab.runtime.plan.entries import Cache, Entries

WORDS = 512
"""So many words, from the first to the last, have their logits compared."""
FEW, MANY = 4, 40
"""Tokens of a probe: as many rows as are multiplied by inputs as they are, and a prompt that ends within a tile."""
NEAR = {FEW: 0.02, MANY: 0.05}
"""Relative error of what a layer adds: keys and values are bfloat16 in the plan's cache; of many rows the inputs of
products are too, or rounded to 8 bits."""


def verify(engine: Engine) -> str | None:
    """Where the plan answers otherwise, None where it does nowhere. Of layers of one kind and window the first is
    asked, by few and by many tokens, then the word table and the head."""
    decoder: Any = engine.plan.angles.decoder
    asked: set[tuple[Any, ...]] = set()
    for index, layer in enumerate(decoder.module.layers):
        forms = tuple(json.dumps(host.w.spec()) for host in layer.modules() if isinstance(host, Linear))
        kind = (decoder.kinds[index], decoder.windows[index], forms)
        if kind in asked:
            continue
        asked.add(kind)
        plain = _plain(layer)
        for count, near in NEAR.items():
            far = _layer(engine, decoder, plain, index, count)
            if not far <= near:
                return (
                    f"layer {index}: its answers to {count} tokens are {far:.3f} off the library's (accepted: {near})"
                )
    for count, near in NEAR.items():
        far = _ends(engine, decoder, count)
        if not far <= near:
            return f"word table and head: their answers to {count} tokens are {far:.3f} off (accepted: {near})"
    return None


@torch.no_grad()
def _layer(engine: Engine, decoder: Any, plain: Any, index: int, count: int) -> float:
    width, spec = engine.plan.spec.width, engine.plan.spec
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(index))
    positions, here = torch.arange(count), torch.ones(1, count, dtype=torch.bool)
    stream = placed(x[None], torch.full((1, count), TEXT), positions[None], here)
    theirs: Tensor = decoder.run(index, plain, stream, None, None).x
    empty = [Entries.empty(spec.shared, spec.size) for _ in range(spec.count)]
    ours = engine.step(Cache([empty]), x, positions, torch.zeros(count), logits=False, left=True,
                       wanted=torch.zeros(count, dtype=torch.bool), layers=range(index, index + 1)).left  # fmt: skip
    assert ours is not None
    return float((ours - theirs[0]).norm() / (theirs[0] - x).norm())


@torch.no_grad()
def _ends(engine: Engine, decoder: Any, count: int) -> float:
    """The word table and, on what it gives, the head: a step through no layer."""
    anatomy, spec = engine.plan.anatomy, engine.plan.spec
    ids = torch.linspace(0, spec.table.out - 1, count).long()
    words = torch.linspace(0, spec.head.out - 1, WORDS).long()
    table, head = getattr(decoder.module, decoder.table), anatomy.model.get_output_embeddings()
    last = _plain(getattr(decoder.module, decoder.norm))
    theirs = last(rows(table.w, ids).float() * spec.factor) @ rows(head.w, words).float().T
    if head.bias is not None:
        theirs += head.bias[words].float()
    if spec.cap:
        theirs = torch.tanh(theirs / spec.cap) * spec.cap
    empty = [Entries.empty(spec.shared, spec.size) for _ in range(spec.count)]
    ours = engine.step(Cache([empty]), ids, torch.zeros(count), torch.zeros(count),
                       wanted=torch.ones(count, dtype=torch.bool), layers=range(0, 0)).logits  # fmt: skip
    assert ours is not None
    return float((ours[:, words] - theirs).norm() / theirs.norm())


def _plain(module: Any) -> Any:
    """A copy in float32 by the reference, without kernels."""
    hosts = [one for one in module.modules() if isinstance(one, Host)]
    without = {id(one): None for host in hosts for one in (host.kernel, getattr(host, "tap", None)) if one is not None}
    return deepcopy(module, without).float()
