"""What Trimtab must know of an architecture to run it block by block: its parts, its linears and their order."""

from __future__ import annotations

from importlib import import_module

from transformers import PreTrainedModel

from trimtab.anatomy.attention import open_door
from trimtab.anatomy.base import Anatomy, Block, reaches
from trimtab.anatomy.families import FAMILIES
from trimtab.core.errors import BadInput, nearest
from trimtab.core.firstcalls import settle_first_calls

__all__ = ["Anatomy", "Block", "known", "of"]


def known(model: PreTrainedModel) -> bool:
    """Whether there is an anatomy for an architecture of its name."""
    return model.config.model_type in FAMILIES


def of(model: PreTrainedModel) -> Anatomy:
    """The anatomy of a library model. Its linears become hosts in place; its own forward goes on as before.

    Raises BadInput for an architecture without an anatomy, or a class that lacks a module which the anatomy needs.
    """
    settle_first_calls()  # a model that was made elsewhere comes in by this door alone
    kind = model.config.model_type
    if kind not in FAMILIES:
        raise BadInput(
            f"architecture: got model_type {kind!r}{nearest(kind, FAMILIES)}, which has no anatomy; "
            f"accepted: {', '.join(sorted(FAMILIES))}. How to add one: docs/adding-an-architecture.md"
        )
    module, _, name = FAMILIES[kind].partition(":")
    found = getattr(import_module(module), name)
    family: type[Anatomy] = found if isinstance(found, type) else found(model)
    missing = [path for path in family.NEEDS if not reaches(model, path)]
    if missing:
        raise BadInput(
            f"model: {type(model).__name__} (model_type {kind!r}) has no {', '.join(missing)}, which its anatomy "
            f"needs; load it as {family.LOAD_AS}, or see docs/adding-an-architecture.md"
        )
    anatomy = family(model)
    open_door(model)
    anatomy.host()
    return anatomy
