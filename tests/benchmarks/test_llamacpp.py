"""What llama.cpp's server is asked, what is read from its answers, and what is told of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

import peers
from classlast import class_last
from ggufpage import HEAD, cells, said
from jobs import SIDES
from trimtab.anatomy.vision import VisionEmbeddings
from trimtab.load.sources import open_source

sys.path.append(str(SIDES / "shared"))
from completion import next_token, question, scored

ANSWERED: dict[str, Any] = {"model": "easyvqa-llava", "asked": "easyvqa-grid", "arm": "4 bits", "bits": 4,
                            "bytes": 2_000_000, "places": 200, "equal": 188, "equal_in_order": 200, "right": 196,
                            "right_there": 187}  # fmt: skip
READ: dict[str, Any] = {"model": "gemma-3-270m", "asked": "text", "arm": "as it came", "bits": None,
                        "bytes": 500_000_000, "places": 1512, "equal": 1500, "perplexity": 42.0,
                        "perplexity_there": 42.42, "ratio": 1.01, "ratio_low": 1.0, "ratio_high": 1.02,
                        "tokens_per_second": 20.0}  # fmt: skip


def test_a_picture_stands_where_the_placeholder_stood() -> None:
    asked = {"prompt": "<image>\nwhat is it?\n", "placeholder": "<image>", "picture": "QUJD"}
    found = question(asked, "<__media_x__>", 7)
    assert found["prompt"] == {"prompt_string": "<__media_x__>\nwhat is it?\n", "multimodal_data": ["QUJD"]}
    assert (found["n_predict"], found["temperature"], found["top_k"]) == (7, 0.0, 1)


@pytest.mark.parametrize("prompt", ["what is it?", "<image><image>what is it?"])
def test_a_prompt_has_one_picture(prompt: str) -> None:
    with pytest.raises(ValueError, match="one '<image>' is needed"):
        question({"prompt": prompt, "placeholder": "<image>", "picture": ""}, "<m>", 7)


def test_a_wanted_token_is_taken_and_its_own_probability_told() -> None:
    asked = next_token([5, 6], 9)
    assert (asked["prompt"], asked["n_predict"], asked["logit_bias"]) == ([5, 6], 1, [[9, 1000.0]])
    answer = {"completion_probabilities": [{"id": 9, "logprob": -3.5, "top_logprobs": [{"id": 4, "logprob": -0.1}]}]}
    assert scored(answer, 9) == (3.5, 4)
    with pytest.raises(RuntimeError, match="token 8 was to be taken, and 9 was"):
        scored(answer, 8)


def test_llamacpp_needs_no_torch() -> None:
    assert peers.LLAMACPP.pins == peers.LLAMACPP.packages
    assert all("==" in one for one in peers.LLAMACPP.pins)


def test_every_row_is_told_under_its_own_names() -> None:
    assert len(cells(ANSWERED)) == len(cells(READ)) == len(HEAD)
    assert cells(ANSWERED)[4] == "188 of 200, 94.0 % (89.8 to 96.5)"
    told = said([ANSWERED, READ])
    assert told["vlm_grid_answers_equal_4bit"] == 0.94
    assert told["vlm_grid_answers_equal_in_order_4bit"] == 1
    assert told["vlm_grid_accuracy_4bit"] - told["vlm_grid_accuracy_llamacpp_4bit"] == pytest.approx(0.045)
    assert told["lm_ratio"] == 1.01
    assert told["lm_tokens_equal"] == pytest.approx(1500 / 1512)


@torch.no_grad()
def test_the_class_token_goes_behind_the_patches_and_positions_stay() -> None:
    loaded = open_source("builtin:easyvqa-llava")
    [tower] = [one for one in loaded.anatomy.model.modules() if isinstance(one, VisionEmbeddings)]
    pixels = torch.rand(2, 3, 128, 128, dtype=tower.position_embedding.weight.dtype)
    ours, positions = tower(pixels), tower.position_embedding.weight
    with class_last(loaded):
        theirs = tower(pixels)
    bare = (ours - positions).roll(-1, 1)
    assert torch.allclose((theirs - positions).float(), bare.float(), atol=0.05)
    assert torch.equal(tower(pixels), ours)
