"""How right an answer is, from 0 to 1, by the name that a task gives."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Sequence

from trimtab.core.errors import unknown

Metric = Callable[[str, Sequence[str]], float]


def normalise(text: str) -> str:
    """Case folded, runs of white space as one blank, none at the ends, no punctuation at the end."""
    return " ".join(text.casefold().split()).rstrip(string.punctuation + " ")


def exact(text: str, answers: Sequence[str]) -> float:
    """1 if ``text`` is one of ``answers`` after normalisation, else 0."""
    return float(normalise(text) in {normalise(one) for one in answers})


def vqa(text: str, answers: Sequence[str]) -> float:
    """VQA accuracy: mean over annotators left out in turn of min(1, matches among the others / 3).

    Source: Antol et al. 2015, arXiv 1505.00468, and the evaluation code published with it. Departures: answers are
    normalised as in ``normalise``, not by its tables of articles, numerals and contractions; with a single answer it is
    ``exact``, with fewer than four annotators all the others must agree instead of three.
    """
    if len(answers) == 1:
        return exact(text, answers)
    hits = [normalise(text) == normalise(one) for one in answers]
    need = min(3, len(answers) - 1)
    return sum(min(1.0, (sum(hits) - hit) / need) for hit in hits) / len(hits)


def f1(text: str, answers: Sequence[str]) -> float:
    """The best harmonic mean of precision and recall of words (a multiset) over ``answers``."""
    return max(_f1(normalise(text).split(), normalise(one).split()) for one in answers)


def _f1(said: list[str], wanted: list[str]) -> float:
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else float(said == wanted)


METRICS: dict[str, Metric] = {"exact": exact, "vqa": vqa, "f1": f1}


def metric(name: str) -> Metric:
    """The metric called ``name``. Raises BadInput with the nearest name."""
    if name not in METRICS:
        raise unknown("task.metric", name, METRICS)
    return METRICS[name]
