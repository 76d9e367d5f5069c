"""RMS norms in one pass (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * g, for a library's own modules.

Libraries write them as six operations in float32, which on a CPU cost as much as the products between them. The forms
differ in what g is (w or 1 + w) and in where they round; a module is taken for the form whose answers it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab.core.native import KNOWN, STORED, library, threads_for
from trimtab.core.probe import probes, same


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
                                int(self.early), STORED[x.dtype], threads_for(x), made.data_ptr())  # fmt: skip
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
    x = probes(len(plain), weight.dtype)
    with torch.no_grad():
        asked: Tensor = module(x)
    for offset, early in product((0.0, 1.0), (False, True)):
        form = Form(plain + offset, eps, early, weight.dtype)
        if same(form(x), asked):
            return form
    return None


def one_pass(module: nn.Module) -> Callable[..., Tensor] | None:
    """A forward in one pass that answers as the module's; None for anything that is no RMS norm."""
    form = form_of(module)
    return None if form is None else partial(_forward, form, module.forward)


def _forward(form: Form, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    known = x.dtype == form.dtype and x.shape[-1] == len(form.weight)
    return form(x) if known else plain(x)
