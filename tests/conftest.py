"""Shapes written in signatures are checked here and nowhere else; randomness is seeded for every test."""

from __future__ import annotations

from jaxtyping import install_import_hook

install_import_hook(
    ["trimtab.core", "trimtab.quantize", "trimtab.prune", "trimtab.factorize", "trimtab.robust", "trimtab.tokens",
     "trimtab.cache"],
    "beartype.beartype",
)  # fmt: skip

import pytest  # noqa: E402
import torch  # noqa: E402

from trimtab.core.firstcalls import settle_first_calls  # noqa: E402

settle_first_calls()  # the library's own models are asked here before any door of ours was gone through


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
