"""What a model is shown in place of a task's pictures: nothing (its processor's mean picture), or each one corrupted.

What is drawn at random for a picture comes from the recipe's seed, the view's name and the picture's own pixels: the
model before and after, and a resumed run, see the same one, wherever the file lies and however often it is asked about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from trimtab import methods
from trimtab.evaluate.prompt import mean_picture
from trimtab.run.context import Context

MISSING = "missing"


@dataclass(frozen=True)
class View:
    """``name`` as figures and journals say it (``missing``, ``noise3``); ``show`` makes what is seen of a picture, the
    same for the same picture, ``name`` and ``seed``."""

    name: str
    show: Callable[[Image.Image], Image.Image]
    seed: int = 0


def views(context: Context) -> tuple[View, ...]:
    """Those that the recipe asks for, in its order, the missing picture first."""
    given, seed = context.recipe.evaluate.robust, context.recipe.seed
    missing = (View(MISSING, partial(mean_picture, context.loaded.processor)),) if given.missing_image else ()
    pairs = dict.fromkeys((name, severity) for name in given.corruptions for severity in given.severities)
    return (*missing, *(corrupted(name, severity, seed) for name, severity in pairs))


def corrupted(name: str, severity: int, seed: int) -> View:
    """The view through a corruption. Raises BadInput for an unknown one or another severity than 1 to 5."""
    made = methods.make(name, {"severity": severity})
    return View(f"{name}{severity}", partial(_shown, made, f"{seed}/{name}/{severity}"), seed)


def _shown(corruption: Any, drawn_by: str, image: Image.Image) -> Image.Image:
    said = f"{drawn_by}/{image.mode}/{image.size}".encode()
    seed = int.from_bytes(hashlib.sha256(said + image.tobytes()).digest()[:8], "big")
    shown: Image.Image = corruption(image, seed)
    return shown
