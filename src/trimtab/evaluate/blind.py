"""The blind control: a table from question to the commonest training answer. It sees no picture.

What it scores is what the questions alone give away; a model's accuracy says little about seeing until it is above it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from trimtab.core.errors import BadInput
from trimtab.data.sample import Sample
from trimtab.evaluate.metrics import metric, normalise
from trimtab.evaluate.prediction import Prediction, graded


def table(train: Iterable[Sample]) -> tuple[dict[str, str], str]:
    """Normalised question -> its commonest answer (ties: the one seen first), and the commonest of all."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in train:
        counts[normalise(one.question)][one.answer] += 1
    if not counts:
        raise BadInput("blind control: no training samples to count answers in")
    every: Counter[str] = Counter()
    for count in counts.values():
        every.update(count)
    return {question: count.most_common(1)[0][0] for question, count in counts.items()}, every.most_common(1)[0][0]


def predict_blind(train: Iterable[Sample], samples: Sequence[Sample], metric_name: str = "exact") -> list[Prediction]:
    """The table's answer to each sample; a question that was not in training gets the commonest of all answers."""
    known, fallback = table(train)
    score = metric(metric_name)
    return [graded(one, known.get(normalise(one.question), fallback), score) for one in samples]
