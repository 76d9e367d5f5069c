"""What makes pictures worse, to measure how much a model still answers. ``METHODS`` says where each is; nothing is
imported before it is asked for. They measure and change no model, so they are no steps of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trimtab.core.room import fetch

if TYPE_CHECKING:
    from trimtab.robust.corruptions.blur import Blur
    from trimtab.robust.corruptions.contrast import Contrast
    from trimtab.robust.corruptions.jpeg import JPEG
    from trimtab.robust.corruptions.noise import Noise
    from trimtab.robust.corruptions.occlusion import Occlusion

__all__ = ["JPEG", "METHODS", "Blur", "Contrast", "Noise", "Occlusion"]

METHODS = {
    "noise": "trimtab.robust.corruptions.noise:Noise",
    "blur": "trimtab.robust.corruptions.blur:Blur",
    "jpeg": "trimtab.robust.corruptions.jpeg:JPEG",
    "contrast": "trimtab.robust.corruptions.contrast:Contrast",
    "occlusion": "trimtab.robust.corruptions.occlusion:Occlusion",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, METHODS, name)
