"""A model larger than memory: matrices stay in their checkpoint, and everything else is loaded as usual.

The library takes a checkpoint as a state dict, does to it what it always does (renamed keys, ties, conversions, what is
missing), and gets blanks in place of the matrices that end, as they are in the file, as the whole weight of a linear
layer or a word embedding. Their hosts then get ``Stored`` weights. What the library or an anatomy puts together or
takes apart (fused matrices, convolutions), norms and biases are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from trimtab import anatomy
from trimtab.anatomy.host import hosts
from trimtab.core.errors import Anomaly, BadInput, Refused
from trimtab.core.place import Place
from trimtab.core.stored import Stored, blank
from trimtab.core.weight import Dense
from trimtab.load.config import read_config
from trimtab.load.skeleton import skeleton
from trimtab.measure.memory import available

SHARE = 0.6
"""Of the memory that is available: a checkpoint that would take more is streamed."""

Blanks = dict[int, tuple[Place, Tensor]]
"""By its address: the place of the tensor that a blank stands for, and the blank."""


@dataclass(frozen=True)
class Lazy:
    """A tensor of a checkpoint as the library takes it: ``lazy[...]`` reads it."""

    place: Place

    @property
    def dtype(self) -> torch.dtype:
        return self.place.dtype

    def is_floating_point(self) -> bool:
        return self.place.dtype.is_floating_point

    def __getitem__(self, whole: Any) -> Any:
        return self.place.read()


@dataclass(frozen=True)
class Unread(Lazy):
    """The same, but what the library gets is a blank in the dtype that it asks for, remembered in ``made``."""

    made: Blanks

    def __getitem__(self, whole: Any) -> Any:
        return self

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> Tensor:
        value = blank(self.place.shape, dtype or self.place.dtype)
        self.made[value.data_ptr()] = self.place, value
        return value


@dataclass(frozen=True)
class Streaming:
    """What of a checkpoint is left in its files: the ``keys`` of matrices, none where all is read; ``notes`` on it."""

    keys: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    made: Blanks = field(default_factory=dict)

    def state(self, places: Mapping[str, Place]) -> dict[str, Lazy]:
        """The checkpoint as a state dict for the library."""
        return {key: Unread(one, self.made) if key in self.keys else Lazy(one) for key, one in places.items()}


def choose(
    folder: Path, kind: Any, places: Mapping[str, Place], dtype: torch.dtype | None, stream: bool | None, code: bool
) -> Streaming:
    """Whether and what to stream: ``stream`` as it says, by memory where it is None.

    Raises Refused, with the reason, where it was asked for or the model does not fit, and it cannot be done.
    """
    size, room = sum(bytes_of(one, dtype) for one in places.values()), available()
    if stream is False or (stream is None and size <= SHARE * room):
        return Streaming()
    told = f"{size / 1e9:.1f} GB of them, {room / 1e9:.1f} GB of memory are available"
    try:
        if code:
            raise BadInput("the model needs code from its repository, which does not say what its matrices become")
        if kind.config_class.extra_files:
            raise BadInput(f"{kind.__name__} also reads {', '.join(kind.config_class.extra_files)}")
        return Streaming(
            matrices(kind, folder, places), (f"weights are read from the files as they are needed: {told}",)
        )
    except BadInput as error:
        if stream or size > room:
            raise Refused(f"{folder}: weights cannot be read from the files as they are needed ({told}): {error}. "
                          "Accepted: stream: false, on a machine that has the memory") from error  # fmt: skip
        return Streaming(notes=(f"weights are all in memory ({told}), and could not be left in the files: {error}",))


def bytes_of(place: Place, dtype: torch.dtype | None) -> int:
    """What a tensor takes in memory in ``dtype``, by default the file's own."""
    cast = dtype is not None and place.dtype.is_floating_point
    return torch.Size(place.shape).numel() * (dtype if cast and dtype else place.dtype).itemsize


def matrices(kind: Any, folder: Path, places: Mapping[str, Place]) -> frozenset[str]:
    """The keys of tensors that are, as they lie in the file, the whole weight of a linear or a word embedding.

    Raises BadInput for a model without an anatomy, or one that has no such matrix.
    """
    model = skeleton(kind, read_config(folder), torch.float32)
    # Held to the end: another parameter that an anatomy makes could get the address of one that it dropped.
    values = dict(model.named_parameters(remove_duplicate=False))
    found = {key: values[name] for key, name in targets(model, places).items() if name in values}
    anatomy.of(model)
    whole = {id(host.w.value) for host in hosts(model) if isinstance(host.w, Dense)}
    taken = Counter(id(value) for value in found.values())
    keys = frozenset(
        key
        for key, value in found.items()
        if id(value) in whole
        and taken[id(value)] == 1  # of two that are tied the library compares the values
        and places[key].shape == tuple(value.shape)
        and places[key].dtype.is_floating_point
    )
    if not keys:
        raise BadInput("none of its tensors is the whole matrix of a linear layer (the library or the anatomy puts "
                       "them together)")  # fmt: skip
    return keys


def targets(model: PreTrainedModel, keys: Iterable[str]) -> dict[str, str]:
    """The parameter that each tensor becomes, under the library's name; those that it converts are left out."""
    changes, names = get_model_conversion_mapping(model), model.state_dict(keep_vars=True)
    renamed = [one for one in changes if isinstance(one, WeightRenaming)]
    converted = [one for one in changes if isinstance(one, WeightConverter)]
    found = {}
    for key in keys:
        name, pattern = rename_source_key(key, renamed, converted, model.base_model_prefix, names)
        if name not in names and key in names:  # as the library's own loading does
            name, pattern = rename_source_key(key, [], [], model.base_model_prefix, names)
        if pattern is None and name in names:
            found[key] = name
    return found


def settle(found: anatomy.Anatomy, made: Blanks) -> None:
    """Give every host that got a blank the weight that reads the matrix; those that were tied share it. Raises Anomaly
    where a blank is left."""
    weights: dict[int, Stored] = {}
    for host in hosts(found.model):
        address = host.w.value.data_ptr() if isinstance(host.w, Dense) else 0
        if address in made and host.w.shape == made[address][0].shape:
            place, value = made[address]
            host.w = weights.setdefault(address, Stored(place, value.dtype))
    left = [name for name, value in found.model.named_parameters() if value.data_ptr() in made]
    if left:
        raise Anomaly(f"stream: {len(left)} tensors were neither read nor left in the files: {', '.join(left[:8])}")
