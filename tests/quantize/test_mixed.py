"""Mixed precision: the program's answer is that of trying every assignment, and the budget is kept to the bit."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
from typing import Any

import pytest
import torch

from trimtab.core.errors import BadInput, Infeasible
from trimtab.core.fit import Site
from trimtab.core.joins import leaves
from trimtab.core.stats import Gram
from trimtab.core.weight import Dense, Quantized, bits
from trimtab.quantize import RTN, Mixed
from trimtab.quantize import allocate as programs
from trimtab.quantize.allocate import Choice, allocate
from trimtab.quantize.mixed import lost

SEEDS = range(20)
BITS = (2, 3, 4, 8)


def layers(seed: int, count: int) -> list[list[Choice]]:
    """Layers of unequal size and sensitivity, over twelve powers of ten; four grids each; times in no simple order."""
    r, found = random.Random(seed), []
    for _ in range(count):
        weights, size = 64 * r.randrange(8, 400), 10 ** r.uniform(-6, 6)
        found.append([Choice(size * 4.0**-b * r.uniform(0.5, 1.5), weights * b + weights // 64 * 24,
                             weights * r.uniform(0.8, 1.2) * (1.5 if b == 3 else 1)) for b in BITS])  # fmt: skip
    return found


def total(tables: list[list[Choice]], chosen: Any, what: str) -> Any:
    taken = [getattr(row[c], what) for row, c in zip(tables, chosen, strict=True)]
    return sum(taken) if what == "bits" else math.fsum(taken)


def best(tables: list[list[Choice]], most: int, seconds: float = math.inf) -> tuple[int, ...]:
    """Every assignment, one after the other."""
    every = (a for a in itertools.product(*(range(len(row)) for row in tables))
             if total(tables, a, "bits") <= most and total(tables, a, "seconds") <= seconds)  # fmt: skip
    return min(every, key=lambda a: total(tables, a, "loss"))


def between(tables: list[list[Choice]], share: float) -> int:
    least, most = (sum(end(c.bits for c in row) for row in tables) for end in (min, max))
    return round(least + share * (most - least))


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_the_best_of_all_assignments_of_five_layers_and_four_choices(seed: int) -> None:
    tables = layers(seed, 5)
    for most in (between(tables, 0), between(tables, random.Random(seed).random()), between(tables, 1)):
        chosen = allocate(tables, most)
        assert tuple(chosen) == best(tables, most)
        assert total(tables, chosen, "bits") <= most


@pytest.mark.parametrize("seed", SEEDS)
def test_under_bits_and_time_too(seed: int) -> None:
    tables = layers(seed, 4)
    most = between(tables, 0.6)
    slow = total(tables, best(tables, most), "seconds")
    quickest = total(tables, min((a for a in itertools.product(range(4), repeat=4) if total(tables, a, "bits") <= most),
                                 key=lambda a: total(tables, a, "seconds")), "seconds")  # fmt: skip
    seconds = (slow + quickest) / 2
    assert tuple(allocate(tables, most, seconds)) == best(tables, most, seconds)
    with pytest.raises(Infeasible, match=r"got .* seconds for 4 matrices; the least possible is .* within the bits"):
        allocate(tables, most, quickest * 0.999)


@pytest.mark.parametrize("seed", SEEDS)
def test_under_time_alone_it_is_the_best_of_all_assignments(seed: int) -> None:
    """Where bytes are not short, from the quickest assignment to one that is just short of the best of all."""
    tables = layers(seed, 4)
    least, most = (sum(end(c.seconds for c in row) for row in tables) for end in (min, max))
    free = total(tables, best(tables, 10**12), "seconds")
    for seconds in (least * (1 + 1e-9), least + random.Random(seed).random() * (free - least), free * (1 - 1e-6), most):
        chosen = allocate(tables, 10**12, seconds)
        assert tuple(chosen) == best(tables, 10**12, seconds)
        assert total(tables, chosen, "seconds") <= seconds


@pytest.mark.parametrize("seed", SEEDS)
def test_it_loses_less_than_equal_bits_for_all_where_these_fit_exactly(seed: int) -> None:
    """At the bytes that 3 or 4 bits everywhere take, over 40 layers; never more, on each of 20 seeds."""
    tables = layers(seed, 40)
    for at in (1, 2):
        equal = [at] * len(tables)
        chosen = allocate(tables, total(tables, equal, "bits"))
        assert total(tables, chosen, "bits") <= total(tables, equal, "bits")
        assert total(tables, chosen, "loss") < 0.5 * total(tables, equal, "loss")


def test_a_budget_that_is_short_by_one_bit_is_refused_with_the_least_possible() -> None:
    tables = layers(0, 6)
    least = sum(row[0].bits for row in tables)
    assert allocate(tables, least) == [0] * 6
    with pytest.raises(Infeasible, match=f"got {least - 1:.6g} bits for 6 matrices; the least possible is {least:.6g}"):
        allocate(tables, least - 1)
    assert Infeasible.exit_status == 5


def test_what_only_the_solvers_tolerance_lets_through_is_shut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of a model of many gigabytes, one bit beyond the budget, under a tolerance that hides it."""
    monkeypatch.setattr(programs, "FEASIBLE", 1e-6)
    tables = [[Choice(5.0, 0), Choice(1.0, 10**12), Choice(0.0, 10**12 + 1)], [Choice(3.0, 0), Choice(0.0, 10**12)]]
    assert allocate(tables, 2 * 10**12) == [1, 1]


def test_one_layer_and_one_choice_are_programs_too() -> None:
    assert allocate([[Choice(1.0, 5)]], 5) == [0]
    assert allocate([[Choice(0.0, 5), Choice(0.0, 3)]], 4) == [1]


def test_nothing_is_printed() -> None:
    """The command line's last line is the user's."""
    code = "from trimtab.quantize.allocate import *; allocate([[Choice(1.0, 5), Choice(0.5, 6)]] * 3, 16)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_without_the_solver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(BadInput, match=r"pip install 'trimtab\[mixed\]'"):
        allocate(layers(0, 2), 10**9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_a_choice_takes_is_what_is_stored(method: Any, symmetric: bool, dtype: torch.dtype) -> None:
    w, gram = torch.randn(24, 64).to(dtype), Gram(64)
    gram.add(torch.randn(200, 64), torch.zeros(200, dtype=torch.int64))
    mixed = Mixed(bits=4, method=method, group_size=16, symmetric=symmetric)
    for number in mixed.choices:
        made = mixed.at(number)(Dense(w), Site("layer", lambda: w, gram))
        assert bits(made) == mixed.takes(number, 24, 64, dtype)


def test_a_matrix_by_itself_gets_the_most_bits_that_are_paid_for() -> None:
    w, gram = torch.randn(8, 64), Gram(64)
    gram.add(torch.randn(200, 64), torch.zeros(200, dtype=torch.int64))
    for most, number in ((2.625, 2), (3.6, 2), (3.625, 3), (4.7, 4), (8.6, 4), (8.625, 8), (16, 8)):
        (q,) = leaves(Mixed(bits=most, group_size=-1)(Dense(w), Site("layer", lambda: w, gram)))  # 40 / 64 beside codes
        assert isinstance(q, Quantized)
        assert q.bits == number
    with pytest.raises(Infeasible, match=r"layer: mixed: .* bits pay for none of .*; the least possible is 1,344"):
        Mixed(bits=2.5, group_size=-1)(Dense(w), Site("layer", lambda: w, gram))


def test_the_error_of_a_matrix_is_that_of_its_output() -> None:
    w, x = torch.randn(24, 64), torch.randn(300, 64) * torch.logspace(-1, 1, 64)
    gram = Gram(64)
    gram.add(x, torch.zeros(300, dtype=torch.int64))
    rounded = RTN(3, 16)(Dense(w), Site("layer", lambda: w))
    expected = (x.double() @ (w - rounded.dense()).double().T).square().sum().item()
    assert lost(Dense(w), rounded, gram.read()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({}, "bits: got None and budget None; accepted: one of the two"),
        ({"bits": 3.0, "budget": "0.2x"}, "accepted: one of the two"),
        ({"budget": "0.2"}, "budget: got '0.2'; accepted: a share of 16 bits, as '0.2x'"),
        ({"budget": "12MB"}, "budget: got '12MB'"),
        ({"milliseconds": 0}, "milliseconds: got 0; accepted: above 0"),
        ({"bits": 3.0, "rows": 0}, "rows: got 0; accepted: above 0"),
        ({"bits": 3.0, "choices": ()}, r"choices: got \[\]"),
        ({"bits": 3.0, "choices": (4, 4)}, "each once"),
        ({"bits": 3.0, "choices": (4, 5)}, "bits: got 5; accepted: 2, 3, 4, 8"),
        ({"bits": 3.0, "group_size": 48}, "group_size: got 48 .* nearest that divides it: 32"),
    ],
)
def test_knobs_that_do_not_fit_are_refused_before_work(knobs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Mixed(**knobs).check(64)


def test_a_share_is_of_16_bits_and_exact() -> None:
    assert Mixed(budget="0.2x").most(1000) == Mixed(bits=3.2).most(1000) == 3200
    assert Mixed(bits=3.3).most(10) == 33
    assert Mixed(bits=0.1).most(30) == 3, "in tenths, not in the nearest binary number"
