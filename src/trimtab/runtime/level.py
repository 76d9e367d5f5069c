"""Which vector instructions the compiled library uses here."""

from __future__ import annotations

import os

from trimtab.core.errors import BadInput
from trimtab.core.native import library

LEVELS = ("plain", "avx2", "avx512", "bf16", "amx")
VARIABLE = "TRIMTAB_LEVEL"
"""Of the environment: a lower level of vector instructions than this CPU has, by its name in ``LEVELS``."""


def level() -> int | None:
    """What the library uses on this CPU; None where it is not built. Raises BadInput for a name that is no level, or
    one that this CPU does not have."""
    native = library()
    if native is None:
        return None
    widest, wanted = int(native.trimtab_level()), os.environ.get(VARIABLE)
    if wanted is None:
        return widest
    if wanted not in LEVELS[: widest + 1]:
        raise BadInput(f"{VARIABLE}: got {wanted!r}; accepted here: {', '.join(LEVELS[: widest + 1])}")
    return LEVELS.index(wanted)
