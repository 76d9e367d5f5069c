"""The runtime of a query from few timings: idealized, as if on hardware of its own, or denoised (Narayanan et al. 2023)

    T(p, o) = F(p) + g (o - 1)

for p tokens of prompt and o of output: F(p) is the time to read the prompt and say the first token, g that of each
further one. F runs straight between ``prompts``, and beyond the last as between the last two. F at these prompts and g
are the least squares of (T - F(p) - g (o - 1)) / T, since clocks err by a share of what they measure.

Timings of a model on one machine give its idealized runtime (``uniform.profiled`` takes them): models timed on the
same machine can be compared whoever serves them. Those of a service, which others use too, give its denoised runtime:
the fit begins with least absolute deviations, and what lies more than ``FAR`` deviations above it is left out, again
and again until nothing changes. Nothing is left out below: contention only ever adds time. It may have slowed about two
in five; where it slows more, ask each query several times and take the ``least``.

Source: Narayanan et al., "Cheaply Estimating Inference Efficiency Metrics for Autoregressive Transformer Models",
NeurIPS 2023, arXiv 2305.02440; the authors' code (stanford-crfm/helm-efficiency) was read. Departures: they take F(p)
from the timings at o = 1 alone and then fit g; scale the F of the next longer prompt by the tokens where we
interpolate; and against contention only take the shortest of several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.core.errors import Anomaly, BadInput

Numbers = NDArray[np.floating[Any]]
FAR = 3.0
ROUNDS = 30


@dataclass(frozen=True)
class Timing:
    """``seconds`` for ``prompt`` tokens read and ``output`` tokens said, at least one of each."""

    prompt: int
    output: int
    seconds: float


@dataclass(frozen=True)
class Runtime:
    """``first``: F at ``prompts``, seconds; ``per_token``: g. ``r2``: the share of the variance of the ``n`` timings
    taken that the fit explains; ``left_out``: as contention."""

    prompts: tuple[float, ...]
    first: tuple[float, ...]
    per_token: float
    r2: float
    n: int
    left_out: int = 0

    def prefill(self, prompt: float) -> float:
        """F(p), seconds. Raises BadInput for another prompt than the only one that was timed."""
        if len(self.prompts) == 1 and prompt != self.prompts[0]:
            raise BadInput(f"prompt: got {prompt:g} tokens; accepted: {self.prompts[0]:g}, the only length timed")
        return float((_hats([prompt], self.prompts) @ np.array(self.first))[0])

    def __call__(self, prompt: float, output: float) -> float:
        """T(p, o), seconds; ``output`` at least 1."""
        return self.prefill(prompt) + self.per_token * (output - 1)


def fit(timings: Sequence[Timing], prompts: Sequence[float] | None = None) -> Runtime:
    """The idealized runtime. ``prompts``: where F may bend; by default at every length of which there are two timings.
    Fewer average more noise away. Raises BadInput where the timings do not determine it, Anomaly where it comes out
    negative."""
    return _fitted(timings, *_design(timings, prompts), np.ones(len(timings), bool))


def denoised(timings: Sequence[Timing], prompts: Sequence[float] | None = None) -> Runtime:
    """The runtime that a service would have if nobody else used it; raises as ``fit`` does."""
    a, knots = _design(timings, prompts)
    t = np.array([one.seconds for one in timings])
    found, keep = _least_absolute(a, t), np.ones(len(t), bool)
    for _ in range(ROUNDS):
        above = t / np.maximum(a @ found, 1e-12) - 1
        spread = 1.4826 * float(np.median(np.abs(above[keep])))  # of a normal distribution: its standard deviation
        before, keep = keep, above <= FAR * max(spread, 1e-6)
        if np.linalg.matrix_rank(a[keep]) < a.shape[1]:
            raise BadInput("timings: too few are left without contention to determine a runtime; accepted: more")
        found = _weighted(a[keep], t[keep])
        if bool((keep == before).all()):
            break
    return _fitted(timings, a, knots, keep)


def least(timings: Iterable[Timing]) -> list[Timing]:
    """The shortest of each (p, o), in their order."""
    found: dict[tuple[int, int], Timing] = {}
    for one in timings:
        key = (one.prompt, one.output)
        found[key] = min(found.get(key, one), one, key=lambda each: each.seconds)
    return list(found.values())


def _design(timings: Sequence[Timing], prompts: Sequence[float] | None) -> tuple[Numbers, tuple[float, ...]]:
    """A row for each timing: how much of F at each of the prompts, and how many times g."""
    if any(one.prompt < 1 or one.output < 1 or one.seconds <= 0 for one in timings):
        raise BadInput("timings: got tokens below 1 or no time; accepted: a prompt, an output and seconds above 0")
    lengths = [one.prompt for one in timings]
    if prompts is None:
        often = {length for length in lengths if lengths.count(length) > 1}
        prompts = [*often, *({min(lengths), max(lengths)} if lengths else ())]
    knots = tuple(sorted({float(one) for one in prompts}))
    outputs = np.array([one.output - 1 for one in timings], float)
    a = np.concatenate([_hats(lengths, knots), outputs[:, None]], 1)
    if not len(timings) or np.linalg.matrix_rank(a) < a.shape[1]:
        raise BadInput(f"timings: {len(timings)} do not determine F at {len(knots)} prompts and the cost of a token; "
                       "accepted: outputs of two lengths or more, and timings near every prompt")  # fmt: skip
    return a, knots


def _hats(prompts: Sequence[float], knots: Sequence[float]) -> Numbers:
    """(n, knots): each row's shares of F at the knots, by straight lines between them and beyond."""
    if len(knots) == 1:
        return np.ones((len(prompts), 1))
    p, k = np.asarray(prompts, float), np.asarray(knots, float)
    at = np.clip(np.searchsorted(k, p) - 1, 0, len(k) - 2)
    share = np.maximum((p - k[at]) / (k[at + 1] - k[at]), 0.0)  # before the first as at the first
    found = np.zeros((len(p), len(k)))
    found[np.arange(len(p)), at] = 1 - share
    found[np.arange(len(p)), at + 1] = share
    return found


def _weighted(a: Numbers, t: Numbers) -> Numbers:
    """The least squares of relative errors, weighted by what was fitted before rather than by the noisy times."""
    weight: Numbers = t
    found: Numbers = np.zeros(a.shape[1])
    for _ in range(3):
        found = np.linalg.lstsq(a / weight[:, None], t / weight, rcond=None)[0]
        weight = np.maximum(a @ found, 0.1 * t)
    return found


def _least_absolute(a: Numbers, t: Numbers) -> Numbers:
    """The least absolute relative errors, by reweighted least squares."""
    found = _weighted(a, t)
    for _ in range(ROUNDS):
        weight = t * np.sqrt(np.maximum(np.abs(1 - a @ found / t), 1e-6))
        found = np.linalg.lstsq(a / weight[:, None], t / weight, rcond=None)[0]
    return found


def _fitted(timings: Sequence[Timing], a: Numbers, knots: tuple[float, ...], keep: NDArray[np.bool_]) -> Runtime:
    t = np.array([one.seconds for one in timings])[keep]
    found = _weighted(a[keep], t)
    if (found < 0).any():
        raise Anomaly(f"timings: too noisy: F {found[:-1].tolist()} and {found[-1]:.3g} s a token; take more")
    missed = float(((t - a[keep] @ found) ** 2).sum())
    around = float(((t - t.mean()) ** 2).sum())
    return Runtime(knots, tuple(found[:-1].tolist()), float(found[-1]), 1 - missed / around if around else 1.0,
                   int(keep.sum()), int((~keep).sum()))  # fmt: skip
