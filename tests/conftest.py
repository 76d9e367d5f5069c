"""Shapes written in signatures are checked here and nowhere else; randomness is seeded for every test."""

from __future__ import annotations

import os
import shutil
from contextvars import ContextVar
from pathlib import Path

import jaxtyping._storage as shapes
from jaxtyping import install_import_hook


class Bound:
    """What jaxtyping has bound to each letter, by greenlet: streams that halt within a block are checked apart."""

    def __init__(self) -> None:
        self.stack: ContextVar[list] = ContextVar("stack")

    @property
    def memo_stack(self) -> list:
        try:
            return self.stack.get()
        except LookupError as error:
            raise AttributeError("memo_stack") from error

    @memo_stack.setter
    def memo_stack(self, value: list) -> None:
        self.stack.set(value)


shapes._shape_storage = Bound()
install_import_hook(
    ["trimtab.core", "trimtab.quantize", "trimtab.prune", "trimtab.factorize", "trimtab.robust", "trimtab.tokens",
     "trimtab.cache"],
    "beartype.beartype",
)  # fmt: skip

import pytest  # noqa: E402
import torch  # noqa: E402

from trimtab.core import native  # noqa: E402
from trimtab.core.firstcalls import settle_first_calls  # noqa: E402
from untested import pytest_sessionfinish, pytest_terminal_summary  # noqa: E402, F401

# Runs plan by these figures of some machine: nothing is measured in a test that is not about measuring.
os.environ.setdefault("TRIMTAB_CEILINGS", str(Path(__file__).parent / "data" / "ceilings.json"))
settle_first_calls()  # the library's own models are asked here before any door of ours was gone through


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(name="compiled")
def _compiled() -> None:
    """For tests of the compiled library; each has one beside it of what there is without."""
    if native.library() is None:
        if shutil.which("c++"):
            pytest.fail("there is a C++ compiler, and src/trimtab/native was not compiled: pip install -e .")
        pytest.skip("no C++ compiler here: the forms in torch are all there is")
