"""The modules that stand in a library's model in place of its own: they hold a ``Weight`` and show their input.

``tap`` is how calibration sees activations without hooks: it is called with the host and its input before the product
and may replace ``host.w``, so that the rest of the block already runs on the trimmed weight. ``acts`` is what is done
to the input before the product that is not linear in it; the tap sees the input as it came. ``kernel`` is what
``trimtab.runtime.lower`` puts beside the reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Protocol

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.core.acts import Rounding, Untaught
from trimtab.core.weight import Dense, Weight, rows

Tap = Callable[[Any, Tensor], None]


class Kernel(Protocol):
    """x @ W.T (+ bias), as the weight's own forward, or as the host's with its input rounded."""

    def __call__(self, x: Tensor, bias: Tensor | None = None) -> Tensor: ...


class Host(nn.Module):
    """A module that owns a ``Weight`` by the name it has in the model."""

    kernel: Callable[..., Tensor] | None

    def __init__(self, w: Weight, name: str) -> None:
        super().__init__()
        self.w, self.name, self.kernel = w, name, None

    @property
    def weight_dtype(self) -> torch.dtype:
        """The dtype of the dense weight."""
        return self.w.dtype

    @property
    def weight(self) -> NoReturn:
        raise TypeError(
            f"{self.name}.weight was read directly, but it is a {type(self.w).__name__} expression. The anatomy of "
            "this architecture must replace the module that reads it (docs/adding-an-architecture.md)"
        )


class Linear(Host):
    """y = w(x) + bias, with ``acts`` of the input rounded first (see ``trimtab.core.acts``)."""

    tap: Tap | None
    kernel: Kernel | None
    acts: Rounding | None

    def __init__(self, w: Weight, bias: nn.Parameter | None, name: str) -> None:
        super().__init__(w, name)
        self.bias = bias
        self.tap, self.acts = None, None
        self.out_features, self.in_features = w.shape

    @classmethod
    def of(cls, module: nn.Linear, name: str) -> Linear:
        """The host of a plain linear layer; the parameters are shared, not copied."""
        return cls(Dense(module.weight), module.bias, name)

    def forward(self, x: Float[Tensor, "*b in"]) -> Float[Tensor, "*b out"]:
        if self.tap is not None:
            self.tap(self, x)
        if self.acts is not None:
            product = partial(self.acts, self.w) if self.kernel is None else self.kernel
            y: Tensor = Untaught.apply(x, partial(product, bias=self.bias), self.name)
            return y
        y = (self.w if self.kernel is None else self.kernel)(x, self.bias)
        return y


class Embedding(Host):
    """Rows of a weight by token id, times ``factor`` (Gemma scales its embeddings; 1 elsewhere)."""

    def __init__(self, w: Weight, name: str, factor: float = 1.0) -> None:
        super().__init__(w, name)
        self.factor = factor

    def forward(self, ids: Integer[Tensor, "*b"]) -> Float[Tensor, "*b width"]:
        if self.kernel is not None:
            found = self.kernel(ids)
        else:
            often = ids.numel() > self.w.shape[0]  # some rows are asked for again: the table is made dense once for all
            found = F.embedding(ids, self.w.dense()) if often else rows(self.w, ids)
        return found if self.factor == 1.0 else found * torch.tensor(self.factor, dtype=found.dtype)


class Recast(nn.Module, ABC):
    """A module of ours whose hosts hold a library module's parameters in another form: flattened, split, transposed."""

    @abstractmethod
    def original(self) -> dict[str, Tensor]:
        """The library's tensors for which the hosts stand, by their names under this module."""


class Patches(Recast):
    """A convolution whose kernel is its stride: a linear layer on flattened patches (channel, row, column)."""

    def __init__(self, linear: Linear, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.linear, self.size = linear, kernel

    @classmethod
    def of(cls, module: nn.Conv2d, name: str) -> Patches:
        """The host of a patch convolution, whose bias is shared. Raises ValueError on any other convolution."""
        padded = module.padding != "valid" if isinstance(module.padding, str) else any(module.padding)
        if module.kernel_size != module.stride or module.groups != 1 or padded:
            raise ValueError(f"{name}: not a patch convolution (kernel {module.kernel_size}, stride {module.stride})")
        value = nn.Parameter(module.weight.detach().flatten(1), requires_grad=False)
        high, wide = module.kernel_size
        assert module.bias is None or isinstance(module.bias, nn.Parameter)
        return cls(Linear(Dense(value), module.bias, name), (high, wide))

    def tiles(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b rows columns in"]:
        """The flattened patches: what ``linear`` is given. Rows and columns that fill no patch are left out."""
        high, wide = self.size
        b, c, h, w = x.shape
        whole = x[..., : h // high * high, : w // wide * wide]
        return whole.reshape(b, c, h // high, high, w // wide, wide).permute(0, 2, 4, 1, 3, 5).flatten(3)

    def original(self) -> dict[str, Tensor]:
        bias = {} if self.linear.bias is None else {"bias": self.linear.bias}
        return {"weight": self.linear.w.dense().unflatten(1, (-1, *self.size)), **bias}

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out rows columns"]:
        return self.linear(self.tiles(x)).permute(0, 3, 1, 2)
