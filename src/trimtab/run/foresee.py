"""Seconds of vision, prefill and decode of a model that is known by its config, as it comes and as it will be left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from trimtab.anatomy import Anatomy
from trimtab.anatomy.decoder import STAGES, Decoder
from trimtab.measure.ceilings import Ceilings
from trimtab.measure.phases import phases
from trimtab.measure.predict import library, planned
from trimtab.measure.roofline import Operation, Roof, seconds
from trimtab.run.prospect import Prospect, policies
from trimtab.runtime.held import HOLD

ROWS = 512
"""Rows of one call of a plan."""


@dataclass(frozen=True)
class Phase:
    """``seconds`` foreseen for ``operations``; ``by``: what runs them, ``library`` or ``plan``."""

    seconds: float
    operations: Sequence[Operation]
    by: str


def foresee(
    anatomy: Anatomy,
    batch: Mapping[str, Tensor],
    known: Ceilings,
    after: Prospect | None = None,
    roof: Roof | None = None,
) -> dict[str, Phase]:
    """``vision`` (where pictures are shown), ``prefill`` and ``decode`` of ``batch``; the source through the library,
    or what ``after`` says of it through the runtime; all of it
    under ``roof`` where one is given. Raises Refused where shapes depend on values."""
    found = phases(anatomy, dict(batch), *((policies(after.policies), after.forms) if after is not None else ()))
    if roof is not None:
        return {name: Phase(seconds(ops, roof), ops, roof.name) for name, ops in found.items()}
    call = known.seeing if "vision" in found else known.call
    if after is None:
        return {name: Phase(library(ops, known) + (call if name != "vision" else 0.0), ops, "library")
                for name, ops in found.items()}  # fmt: skip
    by_plan = has_plan(anatomy, known, after)
    made = {}
    for name, operations in found.items():
        if by_plan and name != "vision":
            made[name] = Phase(planned(operations, known), operations, "plan")
        else:
            made[name] = Phase(library(operations, known, compiled=True), operations, "library")
    return made


def has_plan(anatomy: Anatomy, known: Ceilings, after: Prospect) -> bool:
    """Whether a plan will run the decoder, as far as a config can say: norms and activations may still forbid it."""
    decoder = getattr(anatomy, "decoder", None)
    if not known.compiled or not isinstance(decoder, Decoder) or decoder.stages != STAGES or decoder.rotary is None:
        return False
    if any(method.policy().at.axis == "cache" for method in after.policies):
        return False
    shared = {second for _, second in anatomy.aliases()}
    dense = sum(one.bytes for name, ones in after.forms.items() if name not in shared
                for one in ones if one.form in ("bfloat16", "float32"))  # fmt: skip
    return dense <= HOLD
