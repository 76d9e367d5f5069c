"""The built-in model at random weights, its real processor, and a few samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.zoo.make import build


@pytest.fixture(scope="session")
def processor() -> Any:
    return build.processor()


@pytest.fixture(scope="session")
def model(processor: Any) -> Any:
    """Weights are spread, so that a random model answers with different words."""
    net = build.model(processor.tokenizer).eval()
    with torch.no_grad():
        net.model.language_model.embed_tokens.weight.mul_(20)
        for name, value in net.model.named_parameters():
            if name.startswith("multi_modal_projector") or ("language_model" in name and "_proj" in name):
                value.mul_(6)
    return net


@pytest.fixture(scope="session")
def asked() -> list[Sample]:
    """14 questions about 4 pictures, two of the pictures being collages."""
    single, sheets = samples(Task(dataset="easyvqa"))[5:11], samples(Task(dataset="easyvqa-grid"))[:6]
    return [*single, *sheets, *samples(Task(dataset="easyvqa"))[12:14]]
