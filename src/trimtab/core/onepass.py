"""Modules of a library that are many short operations, computed in one pass while a block is calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from trimtab.core import gated, norm


@contextmanager
def in_one_pass(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The RMS norms and gated products among ``modules`` by their compiled form inside, as they were behind it. No
    gradients. A module whose ``forward`` somebody else has put in place is left alone."""
    own = [module for module in modules if "forward" not in vars(module)]
    found = [(module, made) for module in own if (made := norm.one_pass(module) or gated.one_pass(module)) is not None]
    try:
        for module, forward in found:
            module.forward = forward
        yield
    finally:
        for module, _ in found:
            del module.forward
