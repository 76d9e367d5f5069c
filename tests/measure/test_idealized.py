"""The runtime of a query from few timings: exact without noise, near with it, and blind to contention."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trimtab.core.errors import Anomaly, BadInput
from trimtab.measure.idealized import Runtime, Timing, denoised, fit, least

PER_TOKEN = 0.03
SHORT, LONG = 64, 2048
# Nineteen timings: first tokens at both ends and between, long outputs at both ends.
GRID = [(p, 1) for p in (64, 64, 64, 64, 512, 1024, 2048, 2048, 2048, 2048)] + [
    (p, o) for p in (64, 1024, 2048) for o in (32, 64, 128)
]  # fmt: skip
HELD_OUT = [(p, o) for p in (64, 300, 900, 1500, 2048) for o in (1, 10, 50, 200)]


def first(prompt: float) -> float:
    return 0.02 + 2e-4 * prompt


def true(prompt: float, output: float) -> float:
    return first(prompt) + PER_TOKEN * (output - 1)


def timings(grid: list[tuple[int, int]], noise: Callable[[int], np.ndarray]) -> list[Timing]:
    errors = noise(len(grid))
    return [Timing(p, o, true(p, o) * (1 + error)) for (p, o), error in zip(grid, errors, strict=True)]


def errors_of(runtime: Runtime) -> tuple[float, float, float]:
    """The largest relative errors of F and g, and on held-out queries."""
    return (
        max(abs(runtime.prefill(p) / first(p) - 1) for p in (64, 512, 1024, 2048)),
        abs(runtime.per_token / PER_TOKEN - 1),
        max(abs(runtime(p, o) / true(p, o) - 1) for p, o in HELD_OUT),
    )


def test_without_noise_everything_is_found_and_f_may_bend_where_it_was_timed() -> None:
    def bent(p: float) -> float:
        return 0.1 + 1e-4 * p + (5e-4 * (p - 512) if p > 512 else 0)

    grid = [(p, o) for p in (16, 512, 1024) for o in (1, 8, 32)]
    found = fit([Timing(p, o, bent(p) + PER_TOKEN * (o - 1)) for p, o in grid])
    assert found.prompts == (16, 512, 1024)
    assert found.first == pytest.approx([bent(p) for p in found.prompts])
    assert found.per_token == pytest.approx(PER_TOKEN)
    assert found(700, 5) == pytest.approx(bent(700) + 4 * PER_TOKEN)
    assert found.prefill(2048) == pytest.approx(bent(2048))  # on as between the last two
    assert found.prefill(4) == pytest.approx(bent(16))  # and before the first no less than there
    assert found.r2 == pytest.approx(1.0)
    assert (found.n, found.left_out) == (9, 0)


def test_within_five_percent_of_noise_f_and_g_are_within_three_and_queries_within_five() -> None:
    """Each of nineteen timings is up to 5 % off; no estimator can promise this of every draw, ours keeps it in 19 of 20
    and is never far."""
    assert len(GRID) < 20
    missed, worst = 0, 0.0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = fit(timings(GRID, lambda n: rng.uniform(-0.05, 0.05, n)), (SHORT, LONG))  # noqa: B023
        f, g, held = errors_of(found)
        missed += max(f, g) > 0.03
        worst = max(worst, held)
    assert missed <= 3
    assert worst < 0.05


def test_with_a_standard_deviation_of_five_percent_the_typical_error_is_as_small() -> None:
    every = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        every.append(errors_of(fit(timings(GRID, lambda n: rng.normal(0, 0.05, n)), (SHORT, LONG))))  # noqa: B023
    f, g, held = np.median(np.array(every), axis=0)
    assert max(f, g) < 0.03
    assert held < 0.05


@pytest.mark.parametrize(("share", "allowed"), [(0.0, 0), (0.2, 0), (0.35, 3)])
def test_contention_leaves_the_denoised_runtime_within_five_percent(share: float, allowed: int) -> None:
    """Sixty queries of a service, a share of which others slowed, to twice the time on average; beyond a third it may
    happen that all of a kind were."""
    missed, plain = 0, []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        grid = [(p, o) for p in (16, 256, 1024, 1536) for o in (1, 2, 8, 16, 64) for _ in range(3)]
        given = timings(grid, lambda n: rng.normal(0, 0.02, n))  # noqa: B023
        hit = rng.random(60) < share
        slow = [1 + float(rng.exponential(1.0)) if one else 1.0 for one in hit]
        given = [Timing(t.prompt, t.output, t.seconds * by) for t, by in zip(given, slow, strict=True)]
        asked = [(p, o) for p in (16, 500, 1500) for o in (1, 10, 64)]
        found = denoised(given, (16, 1536))
        missed += max(abs(found(p, o) / true(p, o) - 1) for p, o in asked) > 0.05
        plain.append(max(abs(fit(given, (16, 1536))(p, o) / true(p, o) - 1) for p, o in asked))
        assert found.n + found.left_out == 60
    assert missed <= allowed
    assert share == 0 or np.median(plain) > 0.1  # what the plain fit makes of them


def test_contention_without_noise_is_left_out_exactly() -> None:
    grid = [(p, o) for p in (16, 256, 1024) for o in (1, 4, 16, 64)]
    clean = timings(grid, np.zeros)
    spoilt = [Timing(t.prompt, t.output, t.seconds * (3 if i % 4 == 1 else 1)) for i, t in enumerate(clean)]
    found = denoised(spoilt, (16, 1024))
    assert (found.n, found.left_out) == (9, 3)
    assert found.per_token == pytest.approx(PER_TOKEN)
    assert found.first == pytest.approx([first(16), first(1024)])
    hopeless = [Timing(t.prompt, t.output, t.seconds * 3) for t in clean]
    again = denoised(least([*hopeless, *spoilt, *clean]))  # of three times each, two disturbed: the least
    assert again.left_out == 0
    assert again.per_token == pytest.approx(PER_TOKEN)


def test_the_shortest_of_each_is_taken_in_their_order() -> None:
    some = [Timing(8, 1, 3.0), Timing(4, 1, 1.0), Timing(8, 1, 2.0), Timing(8, 2, 9.0)]
    assert least(some) == [Timing(8, 1, 2.0), Timing(4, 1, 1.0), Timing(8, 2, 9.0)]


def test_one_prompt_says_nothing_of_others() -> None:
    found = fit([Timing(32, o, 1.0 + o) for o in (1, 2, 5)])
    assert found(32, 4) == pytest.approx(5.0)
    with pytest.raises(BadInput, match="prompt: got 64 tokens; accepted: 32"):
        found(64, 4)


@pytest.mark.parametrize(
    "given",
    [
        [],
        [Timing(16, 1, 1.0), Timing(64, 1, 1.0)],  # nothing of a further token
        [Timing(16, 4, 1.0), Timing(64, 8, 1.0)],  # two timings, three unknowns
        [Timing(16, 0, 1.0)],
        [Timing(0, 1, 1.0)],
        [Timing(16, 1, 0.0)],
    ],
)
def test_timings_that_determine_nothing_are_refused(given: list[Timing]) -> None:
    for estimate in (fit, denoised):
        with pytest.raises(BadInput, match="timings"):
            estimate(given)


def test_prompts_without_timings_near_them_are_refused() -> None:
    with pytest.raises(BadInput, match="do not determine F at 4 prompts"):
        fit([Timing(p, o, true(p, o)) for p in (64, 2048) for o in (1, 8)], (64, 512, 1024, 2048))


def test_a_cost_below_nothing_is_an_anomaly() -> None:
    with pytest.raises(Anomaly, match="too noisy"):
        fit([Timing(16, 1, 2.0), Timing(16, 9, 1.0)])
