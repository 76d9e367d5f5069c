"""A session in place of a model: what ``trimtab.load`` hands out then answers by another engine."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor

from trimtab.core.errors import Refused
from trimtab.engines.base import Session


class Foreign:
    """``session`` generates, greedily, one text at a time; ``ends``: words behind which nothing comes."""

    def __init__(self, session: Session, ends: Collection[int]) -> None:
        self.session, self.ends = session, ends

    def generate(
        self, input_ids: Integer[Tensor, "1 t"], max_new_tokens: int, do_sample: bool = False, **others: Any
    ) -> Integer[Tensor, "1 n"]:
        """The prompt and its answer. Raises Refused for pictures, several texts, or words that are drawn."""
        if others.get("pixel_values") is not None or len(input_ids) != 1 or do_sample:
            raise Refused("another engine's answer: accepted: one text without pictures, greedily")
        ids = input_ids[0].tolist()
        return torch.tensor([ids + self.session.answer(ids, max_new_tokens, self.ends).words])
