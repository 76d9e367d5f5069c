"""Which step may follow which, from the methods' cards alone; layer by layer, ``run/follow.py`` says it of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

from trimtab import methods


def after(name: str) -> tuple[str, ...]:
    """The published steps that may follow ``name``: each preserves, consumes or makes anew all it establishes.

    (A quantizer may follow a quantizer on other layers; on the same ones ``undone`` says what it would undo.)
    """
    standing = methods.get(name).CARD.establishes
    every = {n: card for n, card in methods.cards().items() if card.family in methods.STEPS}
    return tuple(n for n, card in every.items() if set(undone(n, standing)) <= set(card.establishes))


def undone(name: str, standing: Iterable[str]) -> tuple[str, ...]:
    """What of ``standing`` on a layer the method neither preserves nor consumes, so that it may not work there."""
    card = methods.get(name).CARD
    return tuple(what for what in standing if what not in {*card.preserves, *card.consumes})


def following(name: str) -> list[dict[str, str]]:
    """For every published step: whether it may follow ``name`` on the same layers, and if not, why and what to do."""
    standing, steps = (
        methods.get(name).CARD.establishes,
        [c for c in methods.cards().values() if c.family in methods.STEPS],
    )
    found = []
    for card in steps:
        gone, why = undone(card.name, standing), ""
        if gone:
            ends = [one.name for one in steps if set(gone) <= {*one.consumes} - {*one.establishes}]
            why = f"it would undo {', '.join(gone)} of {name}; part their layers with targets and ignore, or take one"
            if card.wants_source:
                why += f", or put {card.name} first"
            elif ends:
                why += f", or put {ends[0]} between"
        row = {"name": card.name, "family": card.family}
        found.append(row | {"on the same layers": "no" if gone else "yes", "why not": why})
    return found
