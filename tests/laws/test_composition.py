"""Policies act on quantized, pruned and adapted weights as on the same numbers written out: rows of different lengths,
grouped queries, sliding windows, pictures among words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from oracle import close, make, untouched
from trimtab import anatomy as anatomies
from trimtab import methods
from trimtab.anatomy.loop import prefill
from trimtab.anatomy.trimmed import Trimmed
from trimtab.core.factors import LowRank
from trimtab.core.fit import Site
from trimtab.core.joins import Sum
from trimtab.core.sparse import Masked
from trimtab.core.weight import Quantized, Weight
from trimtab.export.state import dense_state

CACHE = [("snapkv", {"capacity": 8, "window": 3, "kernel": 3}), ("kivi", {"bits": 4, "group_size": 4, "residual": 3})]
TOKENS = [("divprune", {"keep": 0.5}), ("fastv", {"keep": 0.5, "layer": 1})]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def fitted(name: str, knobs: dict[str, Any], w: Weight, path: str) -> Weight:
    made: Weight = methods.make(name, knobs)(w, Site(path, w.dense))
    return made


def trimmed(kind: str, w: Weight, path: str) -> Weight:
    """The weight of one matrix after the steps of ``kind``."""
    if kind == "pruned":
        return fitted("magnitude", {"pattern": "2:4"}, w, path)
    grid = fitted("rtn", {"bits": 4, "group_size": 8}, w, path)
    out, width = w.shape
    low = LowRank(torch.randn(out, 2, dtype=w.dtype) / 8, torch.randn(2, width, dtype=w.dtype) / 8, 2.0)
    return Sum([grid, low]) if kind == "adapted" else grid


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["llava", "gemma3-vision", "mistral", "qwen2.5-vl", "internvl"])
@pytest.mark.parametrize("kind", ["quantized", "pruned", "adapted"])
def test_policies_on_trimmed_weights_are_those_on_the_same_numbers(kind: str, name: str, side: str) -> None:
    model, batch = make(name, side)
    model, batch = model.double(), {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    plain = untouched(model)
    anatomy = anatomies.of(model)
    for path, host in anatomy.linears():
        if anatomy.part_of(path) != "head":
            host.w = trimmed(kind, host.w, path)
    inside = {type(leaf) for _, host in anatomy.linears() for leaf in host.w.modules()}
    assert {"quantized": Quantized, "pruned": Masked, "adapted": LowRank}[kind] in inside
    plain.load_state_dict(dense_state(model), strict=False)
    sees = "pixel_values" in batch
    policies = [methods.make(one, knobs).policy() for one, knobs in [*(TOKENS if sees else []), *CACHE]]
    ours, theirs = (prefill(one, batch, policies).logits for one in (anatomy, anatomies.of(plain)))
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert bool(ours.isnan().any()) == sees
    close(ours.nan_to_num(), theirs.nan_to_num())
    said = {key: value for key, value in batch.items() if key != "position_ids"}
    if side == "left":
        tokens = [Trimmed(one, policies).generate(**said, max_new_tokens=6, do_sample=False, eos_token_id=None)
                  for one in (anatomy, anatomies.of(plain))]  # fmt: skip
        assert torch.equal(*tokens)
