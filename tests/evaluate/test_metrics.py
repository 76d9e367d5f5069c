"""Metrics against hand-worked cases and slow references."""

from __future__ import annotations

import itertools
import random

import pytest

from trimtab.core.errors import BadInput
from trimtab.data.task import METRICS as NAMES
from trimtab.evaluate.metrics import METRICS, exact, f1, metric, normalise, vqa


def test_normalise() -> None:
    assert normalise("  A  Red\nCircle. ") == "a red circle"
    assert normalise("ja!?") == "ja"
    assert normalise("STRASSE") == normalise("straße")
    assert normalise("3.5") == "3.5"


def test_exact() -> None:
    assert exact("Red.", ["red"]) == 1
    assert exact("red circle", ["red"]) == 0
    assert exact("b", ["a", "B"]) == 1


def test_vqa_is_the_mean_over_annotators_left_out() -> None:
    rng = random.Random(0)
    for _ in range(50):
        answers = [rng.choice("abc") for _ in range(10)]
        groups = itertools.combinations(answers, 9)
        wanted = sum(min(1.0, group.count("a") / 3) for group in groups) / 10
        assert vqa("a", answers) == pytest.approx(wanted)
    assert vqa("a", ["a"]) == 1
    assert vqa("a", ["a", "a", "b"]) == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_f1() -> None:
    assert f1("red red circle", ["red circle"]) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert f1("blue", ["red", "blue square"]) == pytest.approx(2 / 3)
    assert f1("", ["red"]) == 0
    assert f1("", [""]) == 1


def test_names_are_those_of_tasks() -> None:
    assert tuple(METRICS) == NAMES
    with pytest.raises(BadInput, match="nearest: 'exact'"):
        metric("exakt")
