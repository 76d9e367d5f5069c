"""The figures of a model's parts (``vlm.parts``): operations by operator, activation memory, times and throughput.

    flops.<part>.<operator>      counted            memory.activations.<part>     counted, bytes at the peak
    arithmetic                   the same as plain data, and by part of the model
    latency.<part>.bN            timed, with .p95   throughput.<part>.bN          rows a second, or tokens for decode
    energy.<part>.bN             joules a call      power.<part>.bN               watts

The parts are ``vision``, ``prefill`` and ``decode``; N are the rows of the batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from torch import nn

from trimtab.core.errors import BadInput
from trimtab.core.reading import Reading
from trimtab.measure import activations as live
from trimtab.measure.energy import Energy, Meter, energy
from trimtab.measure.flops import Flops
from trimtab.measure.latency import Clock
from trimtab.measure.layers import by_part, layers
from trimtab.measure.speed import stats
from trimtab.measure.vlm import Parts, repeated


def calls(found: Parts) -> Iterator[tuple[str, Callable[[], object]]]:
    """The parts in the order in which they must be called: a token is decoded after its prompt."""
    if found.vision is not None:
        yield "vision", found.vision
    yield "prefill", found.prefill
    yield "decode", found.decode


def operators(found: Parts) -> list[Reading]:
    """``flops.<part>.<operator>`` of one call of each part, the most first."""
    readings = []
    for part, call in calls(found):
        mode = Flops()
        with mode:
            call()
        readings += [Reading(f"flops.{part}.{name}", float(n), "flop") for name, n in mode.by_operator.most_common()]
    return readings


def arithmetic(model: nn.Module, found: Parts, part_of: Callable[[str], str]) -> dict[str, dict[str, dict[str, int]]]:
    """Of one call of each part: ``parts``, operations by what ``part_of`` says of a module's path, and ``operators``.

    What is done outside every module that ``part_of`` knows (a loop of ours multiplies queries by keys itself) is the
    tower's in ``vision``, and the language model's elsewhere.
    """
    counted = {}
    for name, call in calls(found):
        mode = Flops()
        with mode:
            found_in = layers(model, call)
        rest = "vision" if name == "vision" else "language"
        parts = Counter(by_part(found_in, partial(_known, part_of, rest)))
        parts[rest] += mode.total - sum(parts.values())
        counted[name] = {"parts": dict(parts), "operators": dict(mode.by_operator.most_common())}
    return counted


def _known(part_of: Callable[[str], str], rest: str, path: str) -> str:
    try:
        return part_of(path)
    except BadInput:
        return rest


def activations(found: Parts) -> list[Reading]:
    """``memory.activations.<part>``: the most bytes that the part's own tensors held at once, its cache included."""
    return [live.reading(f"memory.activations.{part}", call) for part, call in calls(found)]


def speeds(
    make: Callable[[int], Parts],
    sizes: Iterable[int],
    *,
    repeats: int = 9,
    warmup: int = 2,
    tokens: int = 16,
    clock: Clock = time.perf_counter,
) -> list[Reading]:
    """Latency, its p95 and throughput of every part and batch size; ``make(n)``: the parts for n rows."""
    readings = []
    for rows in sizes:
        each = repeated(make(rows), repeats=repeats, warmup=warmup, tokens=tokens, clock=clock)
        for part, values in each.items():
            readings += stats(f"{part}.b{rows}", values, rows)
    return readings


def energies(found: Parts, by: Meter, *, seconds: float = 1.0, idle: float = 0.0) -> dict[str, Energy]:
    """Joules of one call of each part, by its name. Decoding goes on for as long as it takes, so its context grows:
    the figure is the mean over the tokens that were said in ``seconds``."""
    return {part: energy(call, by, seconds=seconds, idle=idle) for part, call in calls(found)}
