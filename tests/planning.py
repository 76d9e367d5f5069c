"""Small decoders that a plan takes, alone and behind a vision tower."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.base import Anatomy
from trimtab.runtime.level import VARIABLE, level
from trimtab.runtime.plan.build import Plan, planned
from trimtab.runtime.plan.engine import Engine

SIZES: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 24, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
WIDE = SIZES | {"head_dim": 32}  # heads that tiles take


def off(mine: Tensor, theirs: Tensor) -> float:
    return float((mine - theirs).norm() / theirs.norm())


def engine_of(found: Anatomy, monkeypatch: pytest.MonkeyPatch, name: str | None = None) -> Engine:
    if name is not None:
        monkeypatch.setenv(VARIABLE, name)
    chosen = level()
    assert chosen is not None
    plan = planned(found, chosen, 256)
    assert isinstance(plan, Plan), plan
    return Engine(plan, 2)


def seeing() -> tuple[Anatomy, dict[str, Tensor]]:
    """A LLaVA of several pictures a row, whose decoder's sizes the plan takes."""
    config = deepcopy(tiny.make("llava")[0].config)
    for name, value in WIDE.items():
        if name not in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"):
            setattr(config.text_config, name, value)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).eval()
    tiny.randomize(model)
    found = anatomies.of(model)
    found.host()
    return found, tiny.batch("llava", model)
