"""One question with its answer, and a way to the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Sample:
    """``id`` is unique in its data set and does not depend on the order of rows.

    ``answer`` is what is asked for (a class name, a caption); ``answers`` are all annotators' where there are several.
    ``open`` makes the picture anew, None where there is none; ``picture`` is equal for samples that show the same one.
    ``group``: what must not be divided between calibration and test (a patient, a document).
    """

    id: str
    question: str
    answer: str
    open: Callable[[], Image.Image] | None = None
    group: str | None = None
    picture: str | None = None
    answers: tuple[str, ...] = ()
