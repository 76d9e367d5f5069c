"""Phi-3's long-context form: the library turns a whole call by one of two sets of frequencies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from oracle import close, untouched
from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.base import Anatomy
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import Refused

SHORT = 12


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def long() -> Phi3ForCausalLM:
    rope = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 5.0],
            "rope_theta": 1e4, "partial_rotary_factor": 1.0}  # fmt: skip
    config = Phi3Config(**tiny.TEXT, rope_parameters=rope, original_max_position_embeddings=SHORT)
    model = Phi3ForCausalLM(config).eval()
    tiny.randomize(model)
    return model


def filled(anatomy: Anatomy, length: int) -> tuple[Slots, torch.Tensor]:
    slots, ids = Slots(), torch.randint(3, 90, (2, length))
    prefill(anatomy, {"input_ids": ids}, slots=slots)
    return slots, ids


@pytest.mark.parametrize("length", [SHORT - 3, SHORT, SHORT + 1, SHORT + 9])
def test_prompts_of_either_length_answer_as_in_the_library(length: int) -> None:
    model = long()
    oracle, ids = untouched(model), torch.randint(3, 90, (2, length))
    found = prefill(anatomies.of(model), {"input_ids": ids}).logits
    close(found, oracle(input_ids=ids).logits)


@pytest.mark.parametrize(("length", "more"), [(SHORT - 4, 4), (SHORT + 1, 5)])
def test_steps_on_one_side_answer_as_in_the_library(length: int, more: int) -> None:
    model = long()
    oracle, anatomy = untouched(model), anatomies.of(model)
    slots, ids = filled(anatomy, length)
    said = torch.randint(3, 90, (2, more))
    found = torch.cat([step(anatomy, said[:, i : i + 1], slots).logits for i in range(more)], 1)
    close(found, oracle(input_ids=torch.cat([ids, said], 1)).logits[:, -more:])


@pytest.mark.parametrize(("length", "more"), [(SHORT - 2, 3), (SHORT, 1)])
def test_passing_the_length_with_keys_of_the_other_kind_is_refused(length: int, more: int) -> None:
    anatomy = anatomies.of(long())
    slots, _ = filled(anatomy, length)
    with pytest.raises(Refused, match=f"longrope: the conversation passes {SHORT} tokens"):
        step(anatomy, torch.randint(3, 90, (2, more)), slots)
    valid = torch.zeros(2, more, dtype=torch.bool)
    step(anatomy, torch.randint(3, 90, (2, more)), slots, valid)  # no token at all passes nothing
