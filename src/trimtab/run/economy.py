"""What answers cost beside their seconds: joules, an idealized runtime, and EfficientLLM's six figures, of both sides.

Taken behind the rounds of ``timing.py``, of the same prompts at batch 1, the two sides in turn. An answer is the
picture, the prompt and ``TOKENS`` words. Nothing is decided by it: it stands in ``result.json``, ``efficiency``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.core.errors import Anomaly
from trimtab.measure import efficiency
from trimtab.measure.energy import Energy, energy, meter, to_readings
from trimtab.measure.flops import count
from trimtab.measure.machine import facts
from trimtab.measure.vlm import Parts, parts
from trimtab.run.context import Context
from trimtab.run.limits import known
from trimtab.run.queries import TOKENS, Batches, Cost, Sides, idealized, lengths, spent, whole

STRETCHES, SECONDS = 6, 0.15
"""Of energy: fewer stretches have no interval; a meter needs a twentieth of a second."""
ALLOWED = 10.0
"""Seconds behind which no other stretch is begun."""


def measure(context: Context, sides: Sides, batches: Batches) -> dict[str, Any]:
    """``energy``: whose figures they are; ``idealized``: F and g of each side and what queries come to; ``six``: the
    table, None where this machine's peak or a side's score is not known."""
    found = {when: parts(loaded.model, batches[when]) for when, loaded in sides.items()}
    joules = _energies(context, found)
    for when, several in joules.items():
        context.read(when, [one for name, each in several.items() for one in to_readings(f"{name}.b1", each)])
    answers = {when: several["answer"][len(several["answer"]) // 2] for when, several in joules.items()}
    first = answers["before"]
    return {
        "energy": {"source": first.source, "how": first.how, "tokens": TOKENS},
        "idealized": idealized(context, sides, batches, {when: one.watts for when, one in answers.items()}),
        "six": _six(context, sides, found, answers),
    }


def foreseen(costs: Sequence[Cost], own: int, most: int, repeats: int) -> float:
    """Seconds that ``measure`` takes, by what a picture, a prompt of ``own`` tokens and a word cost on either side."""
    calls = [(x.see, x.read, x.query(1, 1 + TOKENS)) for x in costs]
    each = sum(max(SECONDS, call) + call for side in calls for call in side if call)
    stretches = max(1.0, min(STRETCHES, repeats, ALLOWED / each + 1))
    return stretches * each + sum(spent(costs, length / own) for length in lengths(own, most, costs))


def _energies(context: Context, found: Mapping[str, Parts]) -> dict[str, dict[str, list[Energy]]]:
    """By side and call, a figure for each stretch: as many as there are rounds of timing, at most ``STRETCHES``, and no
    other is begun behind ``ALLOWED`` seconds."""
    made: dict[str, dict[str, list[Energy]]] = {when: {} for when in found}
    begun, most = time.monotonic(), min(STRETCHES, context.recipe.measure.repeats)
    for number in range(most):
        if number and time.monotonic() - begun > ALLOWED:
            return made
        for when, side in found.items():
            calls = {"vision": side.vision, "prefill": side.prefill, "answer": whole(side)}
            for name, call in calls.items():
                if call is not None:
                    made[when].setdefault(name, []).append(energy(call, meter(), seconds=SECONDS))
        context.progress("energy", number + 1, most)
    return made


def _six(
    context: Context, sides: Sides, found: Mapping[str, Parts], answers: Mapping[str, Energy]
) -> list[dict[str, Any]] | None:
    """Memory is each side's own process at its peak; compute against the highest peak that was measured here."""
    ceilings, scores = known(), _scores(context)
    if ceilings is None or min(scores.values()) <= 0:
        return None
    peak = max(max(one.rates[-1].values) for one in ceilings.products.values())
    size = {"before": "bytes.weights16", "after": "bytes.weights"}
    rows = {}
    for when, loaded in sides.items():
        with loaded.reference():
            done = count(whole(found[when]))
        held, seconds = _value(context, when, "memory.peak"), answers[when].seconds
        rows[when] = efficiency.six(efficiency.Trial(
            times=[0.0, seconds], used=[held, held], watts=[answers[when].watts] * 2, latencies=[seconds],
            tokens=TOKENS, flops=float(done), parameters=_value(context, when, "parameters"),
            capacity=float(facts().memory), peak=peak, bytes_before=_value(context, "before", "bytes.weights16"),
            bytes_after=_value(context, when, size[when]), score_before=scores["before"], score_after=scores[when],
        ))  # fmt: skip
    return efficiency.table(rows)


def _value(context: Context, when: str, name: str) -> float:
    found = context.figure(when, name)
    if found is None:
        raise Anomaly(f"efficiency: {when} {name} was not measured")
    return float(found["value"])


def _scores(context: Context) -> dict[str, float]:
    """Accuracy, or one over the perplexity, of the run's own task."""
    main = next(row for row in context.journal.ended["after"]["result"]["quality"].values() if row["main"])
    ends = {when: float(main[when] or 0.0) for when in ("before", "after")}
    return ends if main["unit"] == "share" else {when: 1 / value if value else 0.0 for when, value in ends.items()}
