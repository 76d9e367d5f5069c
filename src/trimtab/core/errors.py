"""Errors a user can act on. Each says what was wrong, what is accepted, and where it can, the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrimtabError(Exception):
    """Base of every error that Trimtab raises on purpose; ``exit_status`` is what the command line returns."""

    exit_status = 1


class BadInput(TrimtabError):
    """The user's recipe, data, model or file cannot be used as it is."""

    exit_status = 2


class Refused(BadInput):
    """What was asked is possible but would mislead or harm: blind calibration, a pickle, an unknown format."""


class Anomaly(TrimtabError):
    """A result contradicts itself: a broken invariant, a non-finite figure, an artifact that reloads differently."""

    exit_status = 3


class Infeasible(TrimtabError):
    """The plan says that this cannot be done here."""

    exit_status = 5


def nearest(name: str, options: Iterable[str]) -> str:
    """`` (nearest: 'x')`` for an error message, or ``""`` where nothing is near."""
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f" (nearest: {found[0]!r})" if found else ""


def unknown(what: str, name: str, options: Iterable[str]) -> BadInput:
    """The error for a name that is not one of ``options``."""
    listed = sorted(options)
    shown = ", ".join(listed[:24]) + (", ..." if len(listed) > 24 else "")
    return BadInput(f"{what}: got {name!r}{nearest(name, listed)}; accepted: {shown}")
