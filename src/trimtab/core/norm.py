"""RMS norms in one pass (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * g, for a library's own modules.

Libraries write them as six operations in float32, which on a CPU cost as much as the products between them. The forms
differ in what g is (w or 1 + w) and in where they round; a module is taken for the form whose answers it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab.core.native import STORED, library

KNOWN = (torch.float32, torch.bfloat16)
"""Dtypes that the compiled form takes."""
PROBES = 16
"""Rows on which a module is asked."""
EQUAL = 0.99
"""Share of numbers that must be equal to the bit; the others may be a rounding apart."""


@dataclass(frozen=True)
class Form:
    """``weight`` g in float32; ``early``: rounded to the dtype of x before the product with g as well; ``dtype`` of the
    module, for which alone its answers are known."""

    weight: Float[Tensor, " n"]
    eps: float
    early: bool
    dtype: torch.dtype

    def __call__(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Of x in ``dtype``, where there is the compiled library."""
        native, x, made = library(), x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        assert native is not None
        native.trimtab_rms_norm(x.data_ptr(), self.weight.data_ptr(), x.numel() // x.shape[-1], x.shape[-1], self.eps,
                                int(self.early), STORED[x.dtype], made.data_ptr())  # fmt: skip
        return made


def form_of(module: nn.Module) -> Form | None:
    """The form whose answers ``module`` gives on rows of random numbers; None for anything that is no RMS norm."""
    eps, parameters = getattr(module, "eps", getattr(module, "variance_epsilon", None)), list(module.parameters())
    if library() is None or not isinstance(eps, float) or len(parameters) != 1:
        return None
    weight = parameters[0].detach()
    if weight.ndim != 1 or weight.dtype not in KNOWN or weight.is_meta or any(True for _ in module.children()):
        return None
    plain = weight.float().contiguous()
    chance = torch.Generator().manual_seed(0)
    x = (torch.randn(PROBES, len(plain), generator=chance) + 0.5).to(weight.dtype)
    with torch.no_grad():
        asked: Tensor = module(x)
    for offset, early in product((0.0, 1.0), (False, True)):
        form = Form(plain + offset, eps, early, weight.dtype)
        if _same(form(x), asked):
            return form
    return None


def _same(mine: Tensor, asked: Tensor) -> bool:
    if mine.shape != asked.shape or mine.dtype != asked.dtype:
        return False
    if mine.dtype == torch.float32:
        return torch.allclose(mine, asked, rtol=1e-5, atol=1e-6)
    near = torch.allclose(mine.float(), asked.float(), rtol=2**-6, atol=1e-6)
    return near and float((mine == asked).float().mean()) >= EQUAL


@contextmanager
def in_one_pass(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The RMS norms among ``modules`` by their compiled form inside, as they were behind it. No gradients. A module
    whose ``forward`` somebody else has put in place is left alone."""
    own = (module for module in modules if "forward" not in vars(module))
    found = [(module, form) for module in own if (form := form_of(module)) is not None]
    try:
        for module, form in found:
            module.forward = partial(_forward, form, module.forward)
        yield
    finally:
        for module, _ in found:
            del module.forward


def _forward(form: Form, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    known = x.dtype == form.dtype and x.shape[-1] == len(form.weight)
    return form(x) if known else plain(x)
