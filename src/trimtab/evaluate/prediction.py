"""What a model answered to one sample, and how right that is."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.data.sample import Sample
from trimtab.evaluate.metrics import Metric


@dataclass(frozen=True)
class Prediction:
    """``score`` from 0 to 1 by the task's metric; ``correct`` if it is above a half, which is what flips count."""

    id: str
    text: str
    correct: bool
    score: float


def graded(sample: Sample, text: str, metric: Metric) -> Prediction:
    """The prediction ``text`` for ``sample``, judged against its answer or answers."""
    score = metric(text, sample.answers or (sample.answer,))
    return Prediction(sample.id, text, score > 0.5, score)
