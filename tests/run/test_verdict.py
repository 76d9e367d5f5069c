"""One-sided bounds decide; the worst axis with a budget is the run's verdict."""

from __future__ import annotations

import math

import pytest

from trimtab.run.verdict import EXIT, Axis, Figure, overall, status


@pytest.mark.parametrize(
    ("low", "high", "limit", "expected"),
    [
        (0.1, 0.4, 0.5, "ACCEPTED"),
        (0.1, 0.5, 0.5, "ACCEPTED"),
        (0.4, 0.6, 0.5, "INCONCLUSIVE"),
        (0.5, 0.6, 0.5, "INCONCLUSIVE"),
        (0.51, 0.6, 0.5, "REGRESSION"),
        (math.nan, 0.6, 0.5, "ANOMALOUS"),
        (0.1, math.inf, None, "ANOMALOUS"),
        (0.1, 0.9, None, "better"),
        (1.1, 1.2, None, "worse"),
        (0.9, 1.2, None, "same"),
    ],
)
def test_status(low: float, high: float, limit: float | None, expected: str) -> None:
    assert status(Figure((low + high) / 2, low, high, same=1.0), limit) == expected


def test_an_ablation_is_never_accepted() -> None:
    assert overall([], ablation=True) == "ABLATION"
    assert overall([axis("ACCEPTED", "a")], ablation=True) == "ABLATION"
    assert overall([], ineffective=True, ablation=True) == "INEFFECTIVE"
    assert overall([], anomalous=True, ablation=True) == "ANOMALOUS"
    assert EXIT["ABLATION"] != 0


def axis(state: str, budget: str | None) -> Axis:
    return Axis("speed", "latency.prefill.b8", state, budget, 1.0, 1.0, "", None, None, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "ineffective", "anomalous", "expected"),
    [
        ([("ACCEPTED", "a"), ("worse", None)], False, False, "ACCEPTED"),
        ([("ACCEPTED", "a"), ("INCONCLUSIVE", "b")], False, False, "INCONCLUSIVE"),
        ([("REGRESSION", "a"), ("INCONCLUSIVE", "b")], False, False, "REGRESSION"),
        ([("ACCEPTED", "a"), ("ANOMALOUS", None)], False, False, "ANOMALOUS"),
        ([("ACCEPTED", "a")], True, False, "INEFFECTIVE"),
        ([("ACCEPTED", "a")], False, True, "ANOMALOUS"),
        ([("REGRESSION", "a")], True, True, "ANOMALOUS"),
        ([("worse", None)], False, False, "ACCEPTED"),
    ],
)
def test_overall(rows: list, ineffective: bool, anomalous: bool, expected: str) -> None:
    assert overall([axis(*row) for row in rows], ineffective, anomalous) == expected
    assert expected in EXIT
