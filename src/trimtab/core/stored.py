"""A matrix that stays in its checkpoint: a leaf that holds a place in a file and reads it when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, final

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from trimtab.core.errors import Refused
from trimtab.core.place import Place
from trimtab.core.weight import Dense, Weight, dense_spec, rows


def blank(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A stand-in with the shape, dtype and device of a tensor, one number in memory: NaN in every place, so that what
    takes it for the tensor itself does not go unseen."""
    return torch.full((), torch.nan, dtype=dtype).expand(shape)


@final
class Stored(Weight):
    """What lies at ``place``, in ``dtype`` (the file's own unless given).

    It runs and is counted like ``Dense``, and is written as one: ``spec`` and ``state_dict`` are those of the matrix,
    never of the file. ``value`` is a blank that stands for the matrix where parameters are counted. It cannot be
    loaded into, moved or cast: RuntimeError and Refused.
    """

    def __init__(self, place: Place, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.place = place
        self.value = nn.Parameter(blank(place.shape, dtype or place.dtype), requires_grad=False)

    @classmethod
    def empty(cls, spec: Mapping[str, Any]) -> Weight:
        """What its spec describes: a matrix in memory."""
        return Dense.empty(spec)

    @property
    def shape(self) -> tuple[int, int]:
        out, width = self.place.shape
        return out, width

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

    def dense(self) -> Float[Tensor, "out in"]:
        """The matrix, read anew. Raises BadInput where the file has changed."""
        return self.place.read().to(self.dtype)

    def spec(self) -> dict[str, Any]:
        return dense_spec(self.shape, self.dtype)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """The matrix; ``keep_vars``, which asks for the parameters themselves, gives the blank and reads nothing."""
        destination[f"{prefix}value"] = self.value if keep_vars else self.dense()

    def _load_from_state_dict(self, *args: Any, **others: Any) -> NoReturn:
        raise RuntimeError(f"{self.place.key}: is read from {self.place.path.name} and cannot be loaded into")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stored:
        corner = self.value.detach()[:1, :1]
        moved = fn(corner)
        if (moved.dtype, moved.device) != (corner.dtype, corner.device):
            raise Refused(f"{self.place.key}: is read from its file as {self.dtype} on the CPU, and cannot become "
                          f"{moved.dtype} on {moved.device}; accepted: dtype when the model is opened, or stream: "
                          "false")  # fmt: skip
        return self


@rows.register
def _(w: Stored, index: Integer[Tensor, "*b"]) -> Float[Tensor, "*b in"]:
    return w.place.rows(index).to(w.dtype)
