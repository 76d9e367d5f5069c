"""A library model without weights: parameters on the meta device, buffers as the constructor computes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import PreTrainedConfig, PreTrainedModel


def skeleton(kind: Any, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model ``kind(config)``, evaluating, with every parameter on meta.

    Buffers that no checkpoint holds (rotary frequencies, position ids) are real: on the meta device they would stay
    empty, since nothing assigns them later. The random generator is left as it was.
    """
    with _parameters_on_meta(), torch.random.fork_rng(devices=[]):
        model: PreTrainedModel = kind._from_config(config, dtype=dtype)  # what the library's Auto classes call
    return model.eval()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    here = threading.get_ident()

    def hook(*registered: Any) -> Any:  # (module, name, parameter) -> what to register in its place
        value = registered[2]
        if value is None or value.is_meta or threading.get_ident() != here:
            return value
        return nn.Parameter(value.to("meta"), requires_grad=value.requires_grad)

    handle = register_module_parameter_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()
