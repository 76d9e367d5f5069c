"""Vision, prefill and decode of both sides, timed in turn in one process, so that a drift of the machine meets both;
and the bytes of the cache that each has filled by then.

Before: the source as it loads, through the library's own forward. After: the artifact as it reloads, kernels and
policies included. One round times every part of both sides once; ratios are bounded by ranks over all rounds. What
answers cost in joules is taken behind them (``economy.py``).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trimtab.core.reading import Reading
from trimtab.data.task import Task
from trimtab.evaluate.ratio import of_repeats
from trimtab.load import artifact as artifacts
from trimtab.load.sources import open_source
from trimtab.measure.latency import repeats_of
from trimtab.measure.machine import facts
from trimtab.measure.speed import stats
from trimtab.measure.vlm import Parts, parts
from trimtab.run import calibration, economy
from trimtab.run.context import Context
from trimtab.run.footprint import peak_of
from trimtab.run.queries import TOKENS
from trimtab.runtime.dtype import compute_dtype

LEAST = 5  # rounds, however long they take

Times = dict[str, list[float]]


def measure(context: Context) -> dict[str, Any]:
    """Time both sides; readings under ``before`` and ``after``, ratios with their bounds in the journal."""
    recipe = context.recipe
    sides = {"before": as_it_came(context), "after": artifacts.read(context.folder.artifact)}
    times: dict[str, Times] = {when: {} for when in sides}
    shown: dict[int, dict[str, dict[str, Tensor]]] = {}
    for size in sorted({1, recipe.measure.batch_size}):
        found, shown[size] = {}, {}
        for when, loaded in sides.items():
            context.loaded = loaded
            shown[size][when] = prompts(context, size)
            found[when] = parts(loaded.model, shown[size][when])
        _rounds(context, found, times, size)
        for when, side in found.items():  # of the same prompts and as many tokens after them
            context.read(when, [Reading(f"bytes.cache.b{size}", float(side.cache()), "bytes")])
    samples = context.folder.state / "gate.safetensors"
    threads = torch.get_num_threads()
    weights = {"before": recipe.model, "after": str(context.folder.artifact)}
    source = {"before": {"revision": recipe.revision, "dtype": recipe.dtype}, "after": {}}
    peaks = {when: peak_of(weights[when], samples, threads, **source[when]) for when in sides}
    for when, loaded in sides.items():
        memory = Reading("memory.peak", float(peaks[when]), "bytes", how="timed")
        readings = [one for name, values in times[when].items() for one in _stats(name, values)]
        context.read(when, [memory, *(_said(one, simulated(loaded)) for one in readings)])
    ratios = {name: of_repeats(times["before"][name], times["after"][name]) for name in times["before"]}
    rows = {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in ratios.items()}
    more = {"efficiency": economy.measure(context, sides, shown[1])} if recipe.measure.efficiency else {}
    return {"ratios": rows, "machine": facts().row(), "kernels": _kernels(sides["after"]), **more}


def _stats(name: str, values: list[float]) -> list[Reading]:
    """The median of ``latency.<part>.bN``, its tail, and how many rows (of decoding, words) that is in a second."""
    part = name.removeprefix("latency.")
    return stats(part, values, int(part.rpartition(".b")[2]))


def _kernels(loaded: Any) -> dict[str, Any]:
    """How many linears run on which kernel, the bytes of dense copies that are held for it, and why no plan runs the
    decoder, "" where one does."""
    report = loaded.kernels
    if report is None:
        return {"linears": {}, "reference": 0, "held": 0, "simulated": 0}
    without = sum(name not in report.kernels for name in report.reasons)
    return {"linears": dict(Counter(report.kernels.values())), "reference": without, "held": report.held,
            "simulated": len(report.simulated), "planless": report.planless}  # fmt: skip


def simulated(loaded: Any) -> set[str]:
    """Of ``vision``, ``prefill`` and ``decode`` those in which a linear's arithmetic is simulated."""
    if loaded.kernels is None:
        return set()
    towers = {loaded.anatomy.part_of(name) in ("vision", "projector") for name in loaded.kernels.simulated}
    return ({"vision"} if True in towers else set()) | ({"prefill", "decode"} if False in towers else set())


def _said(one: Reading, parts: set[str]) -> Reading:
    """The reading of a latency, as simulated where its part is."""
    return replace(one, how="simulated") if one.name.split(".")[1] in parts else one


def as_it_came(context: Context) -> Any:
    """The model as it came, untouched by hosts; in float32 where this CPU does not multiply bfloat16 itself, since
    there nobody would run it in bfloat16, and it would be beaten too easily."""
    recipe = context.recipe
    slow = recipe.dtype is None and compute_dtype() == torch.float32
    return open_source(recipe.model, revision=recipe.revision, dtype="float32" if slow else recipe.dtype,
                       trust_remote_code=recipe.trust_remote_code, stream=False)  # fmt: skip


def prompts(context: Context, size: int, part: str | None = None) -> dict[str, Tensor]:
    """``size`` prompts of the data set that ``measure`` names, else of the task, from its own split or ``part``."""
    task = context.recipe.task
    if context.recipe.measure.dataset is not None:
        task = Task.parse({"dataset": context.recipe.measure.dataset})
    length = context.recipe.measure.prompt_tokens
    return calibration.task_batch(context, task, size, part or task.split, length=length, again=True)


def _rounds(context: Context, found: dict[str, Parts], times: dict[str, Times], size: int) -> None:
    """One uncounted round, then as many as the recipe says, the two sides in turn. The clock may end them early: it
    sees how long both sides take together, not which is faster."""
    repeats, most = context.recipe.measure.repeats, 60 * context.recipe.measure.max_minutes
    begun = time.monotonic()
    for number in range(repeats + 1):
        if number > LEAST and time.monotonic() - begun > most:
            context.log.info("timing b%d: %d of %d rounds in %g s", size, number - 1, repeats, most)
            return
        for when, side in found.items():
            for name, seconds in _once(side).items():
                if number:
                    times[when].setdefault(f"latency.{name}.b{size}", []).append(seconds)
        context.progress(f"timing b{size}", number, repeats)


def _once(side: Parts) -> dict[str, float]:
    """Seconds of each part, decode for one token of every row."""

    def several() -> None:
        for _ in range(TOKENS):
            side.decode()

    found = {} if side.vision is None else {"vision": repeats_of(side.vision, 1, 1)[0]}
    found["prefill"] = repeats_of(side.prefill, 1, 1)[0]
    found["decode"] = repeats_of(several, 1, 0)[0] / TOKENS
    return found
