"""Which layers a step works on: regular expressions on their names, and aliases for the parts of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from trimtab.anatomy import Anatomy
from trimtab.core.errors import BadInput, nearest

# What a recipe may say in place of names -> the parts of the model that it means.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "language": ("language",),
    "vision": ("vision",),
    "audio": ("audio",),
    "projector": ("projector",),
    "embedding": ("embedding",),
    "head": ("head",),
    "all-linear": ("vision", "audio", "projector", "language"),
}


def select(anatomy: Anatomy, targets: Sequence[str], ignore: Sequence[str] = ()) -> list[str]:
    """Names of the linears and embeddings that one of ``targets`` means and none of ``ignore``, in the model's order.

    A target is an alias (``all-linear``: every linear but the head) or a regular expression that matches a whole name
    or the end of one from a dot on, so that ``q_proj`` and ``layers\\.0\\..*`` both do what they look like. Raises
    BadInput for one that matches nothing, or where nothing is left.
    """
    parts = {name: anatomy.part_of(name) for name, _ in (*anatomy.embeddings(), *anatomy.linears())}
    wanted = {name for target in targets for name in _meant(target, "targets", parts)}
    wanted -= {name for target in ignore for name in _meant(target, "ignore", parts)}
    if not wanted:
        raise BadInput(f"targets: {list(targets)} without {list(ignore)} leaves no layer to work on")
    return [name for name in parts if name in wanted]


def _meant(target: str, key: str, parts: Mapping[str, str]) -> list[str]:
    if target in ALIASES:
        found = [name for name, part in parts.items() if part in ALIASES[target]]
    else:
        try:
            pattern = re.compile(rf"(?:.*\.)?(?:{target})")
        except re.error as error:
            raise BadInput(f"{key}: got {target!r}, which is no regular expression ({error})") from error
        found = [name for name in parts if pattern.fullmatch(name)]
    if not found:
        ends = {name.rpartition(".")[2] for name in parts}
        hint = nearest(target, [*ALIASES, *ends, *parts])
        raise BadInput(
            f"{key}: {target!r} matches no layer of this model{hint}; accepted: {', '.join(ALIASES)}, or a regular "
            f"expression on names that end in {', '.join(sorted(ends))}"
        )
    return found
