"""Six figures that say how efficiently a model ran, and which models no other beats in all of them.

    memory       1/T integral of used(t) dt / capacity             share of the memory, over time
    compute      F / (T peak)                                      achieved over peak operations a second
    latency      mean of the requests' seconds
    throughput   tokens / T, and for each parameter tokens / (T N)
    energy       integral of P(t) dt
    compression  (bytes before / bytes after) x (score after / score before)

A model (with its technique) is dominated by another that is at least as good in every figure compared and better in
one; it is Pareto where nothing dominates it. Less is better of memory, latency and energy, more of the others.

Source: "EfficientLLM: Efficiency in Large Language Models", 2025, arXiv 2505.13840. Departures: memory is a share of
what there is (there also in GB), energy is joules where some of its tables have mean watts, and the flags are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.core.errors import BadInput, unknown
from trimtab.core.reading import Reading
from trimtab.measure.power import integrate

MORE = {
    "efficiency.memory": False, "efficiency.compute": True, "efficiency.latency": False,
    "efficiency.throughput": True, "efficiency.throughput_per_parameter": True, "efficiency.energy": False,
    "efficiency.compression": True,
}  # fmt: skip
"""Every figure, and whether more of it is better."""
AXES = tuple(name for name in MORE if name != "efficiency.throughput_per_parameter")


@dataclass(frozen=True)
class Trial:
    """What was seen while a model answered: ``used`` bytes and ``watts`` at ``times`` (seconds, in order, the first and
    the last are the trial's ends), the seconds of each request, ``tokens`` said and ``flops`` done in all. ``capacity``
    in bytes and ``peak`` in operations a second are the machine's. Bytes and scores are of the model before anything
    was done to it and as it ran; of a score more is better."""

    times: Sequence[float]
    used: Sequence[float]
    watts: Sequence[float]
    latencies: Sequence[float]
    tokens: float
    flops: float
    parameters: float
    capacity: float
    peak: float
    bytes_before: float
    bytes_after: float
    score_before: float
    score_after: float


def six(trial: Trial) -> list[Reading]:
    """The figures of a trial, in the order of ``MORE``. Raises ValueError as ``integrate`` does, BadInput where one
    would divide by nothing."""
    joules, held = integrate(trial.times, trial.watts), integrate(trial.times, trial.used)
    passed = trial.times[-1] - trial.times[0]
    divisors = {"times": passed, "latencies": len(trial.latencies)} | {
        name: getattr(trial, name)
        for name in ("capacity", "peak", "parameters", "bytes_before", "bytes_after", "score_before")
    }
    for name, value in divisors.items():
        if value <= 0:
            raise BadInput(f"efficiency: {name}: got {value}; accepted: above 0")
    rate = trial.tokens / passed
    values = (
        held / passed / trial.capacity,
        trial.flops / (passed * trial.peak),
        sum(trial.latencies) / len(trial.latencies),
        rate,
        rate / trial.parameters,
        joules,
        trial.bytes_before / trial.bytes_after * (trial.score_after / trial.score_before),
    )
    units = ("share", "share", "s", "tokens/s", "tokens/s/parameter", "J", "x")
    return [
        Reading(name, float(value), unit, how="estimated")
        for name, value, unit in zip(MORE, values, units, strict=True)
    ]


def table(rows: Mapping[str, Sequence[Reading]], axes: Sequence[str] = AXES) -> list[dict[str, Any]]:
    """A row of plain data for each model: its figures by name, ``pareto``, and ``dominated_by`` (the first that does).

    ``pareto`` is None where one of ``axes`` is missing: what was not measured is not called good. Raises BadInput for
    an axis that is no figure, or a row that has one twice.
    """
    wrong = [axis for axis in axes if axis not in MORE]
    if wrong or not axes:
        raise unknown("axes", wrong[0] if wrong else "none", MORE)
    figures = {name: _figures(name, readings) for name, readings in rows.items()}
    whole = {name: found for name, found in figures.items() if set(axes) <= set(found)}
    made = []
    for name, found in figures.items():
        by = next((other for other in whole if name in whole and _dominates(whole[other], found, axes)), None)
        made.append({
            "name": name, "figures": found, "pareto": by is None if name in whole else None, "dominated_by": by,
        })  # fmt: skip
    return made


def _figures(name: str, readings: Sequence[Reading]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in readings:
        if one.name in found:
            raise BadInput(f"efficiency: {name}: got {one.name} twice; accepted: one of each")
        if one.name in MORE:
            found[one.name] = one.value
    return found


def _dominates(one: Mapping[str, float], other: Mapping[str, float], axes: Sequence[str]) -> bool:
    gains = [(one[axis] - other[axis]) * (1 if MORE[axis] else -1) for axis in axes]
    return min(gains) >= 0 and max(gains) > 0
