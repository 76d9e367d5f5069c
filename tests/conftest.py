"""Shapes written in signatures are checked here and nowhere else; randomness is seeded for every test."""

from __future__ import annotations

from jaxtyping import install_import_hook

install_import_hook(["trimtab.core", "trimtab.quantize", "trimtab.tokens", "trimtab.cache"], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
