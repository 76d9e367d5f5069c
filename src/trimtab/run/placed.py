"""Where the operations of a phase lie under this machine's roofline: for the report's drawing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from trimtab.measure.ceilings import Ceilings
from trimtab.measure.predict import attention, product, seconds_of, working_set
from trimtab.measure.roofline import Operation
from trimtab.run.forecast import Forecast
from trimtab.run.foresee import Phase


def roofline(told: Forecast) -> dict[str, Any]:
    """``machine``: peaks of products by many rows and the curve of reading; ``sides``: each phase before and after at
    batch 1, its products and attentions one by one, everything else by kind."""
    known = told.known
    peaks = {form: max(one.rates[-1].values) for form, one in known.products.items()}
    sides = []
    for when, sizes in told.measured.items():
        for phase, found in sizes[1].items():
            tokens = max((one.entries for one in found.operations), default=0)
            sides.append({"when": when, "phase": phase, "batch": 1, "length": tokens, "predicted": found.seconds,
                          "rows": list(rows(found, known, when == "after"))})  # fmt: skip
    reading = dict(zip((str(int(size)) for size in known.reading.sizes), known.reading.values, strict=True))
    name = told.roof.name if told.roof is not None else str(known.machine.get("processor", ""))
    return {"machine": {"name": name, "peaks": peaks, "bandwidth": reading}, "sides": sides}


def rows(phase: Phase, known: Ceilings, trimmed: bool) -> Iterator[dict[str, Any]]:
    """Plain data of each operation."""
    held, others = working_set(phase.operations), defaultdict[tuple[str, str, str], list[Operation]](list)
    for one in phase.operations:
        if one.kind not in ("product", "attention"):
            others[one.part, one.kind, one.dtype].append(one)
            continue
        if phase.by == "plan":
            seconds = product(one, known, held, True) if one.kind == "product" else attention(one, known, True, held)
            start = 0.0
        else:
            seconds, start = seconds_of(one, known, held, trimmed), known.operator
        yield _row(one.name, [one], seconds, start, known, held)
    for (_, kind, _), several in others.items() if phase.by != "plan" else ():
        seconds = sum(seconds_of(one, known, held, trimmed) for one in several)
        yield _row(kind, several, seconds, len(several) * known.operator, known, held)


def _row(name: str, several: Sequence[Operation], seconds: float, start: float, known: Ceilings, held: float) -> Any:
    one, flops, moved = several[0], sum(x.flops for x in several), sum(x.moved for x in several)
    bound = "memory" if moved / known.reading.at(held) > 0.5 * (seconds - start) else "compute"
    return {"name": name, "kind": one.kind, "part": one.part, "flops": flops, "bytes": moved, "dtype": one.dtype,
            "seconds": seconds, "bound": "start" if start > 0.5 * seconds else bound}  # fmt: skip
