"""Vision, prefill and decode of a model as lists of operations, for a batch whose words are real and whose weights may
be on the meta device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trimtab.anatomy.base import Anatomy, Batch
from trimtab.anatomy.loop import Policies, prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.measure.roofline import Operation
from trimtab.measure.trace import NOTHING, Forms, tracing

SEEING = ("vision", "projector", "audio")
Phases = Mapping[str, list[Operation]]


def phases(anatomy: Anatomy, batch: Batch, policies: Policies = (), forms: Forms = NOTHING) -> Phases:
    """``vision`` (where pictures are shown), ``prefill`` of the whole prompt up to the last token's logits, ``decode``
    of the next token of every row. ``forms``: by host, what it would be stored as. Raises Refused where shapes depend
    on values that are not there."""
    slots = Slots() if anatomy.decodes else None
    with tracing(anatomy, forms) as trace:
        prefill(anatomy, batch, policies, slots, logits_to_keep=1)
        count = len(trace.operations)
        if slots is not None:
            step(anatomy, batch["input_ids"][:, -1:], slots)
    whole, word = trace.operations[:count], trace.operations[count:]
    seen = [one for one in whole if one.part in SEEING]
    found = {"vision": seen} if seen else {}
    return {**found, "prefill": [one for one in whole if one.part not in SEEING], **({"decode": word} if word else {})}


def words(length: int, rows: int = 1) -> dict[str, Tensor]:
    """A prompt of words alone."""
    ids = torch.arange(length).remainder(7).expand(rows, length)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
