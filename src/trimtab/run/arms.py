"""The ways to weigh kinds of tokens in calibration, and what a recipe may ask of them.

``calibrate.weigh``: pooled counts every token alike, balanced weighs image tokens by what the answers' loss makes of
them, text and image leave the others out. The last two are arms of an ablation, not ways to calibrate a model that
anybody serves: only ``calibrate.audit: ablation`` takes them, and such a run is never ACCEPTED.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from trimtab import methods
from trimtab.core.errors import BadInput

Weigh = Literal["pooled", "balanced", "text", "image"]
ARMS: tuple[Weigh, ...] = get_args(Weigh)
PARTIAL: tuple[Weigh, ...] = ("text", "image")
LAYERWISE = ("quantize", "prune", "factorize")


def check(weigh: Weigh, ablation: bool, names: Sequence[str], text: bool, measured: int) -> None:
    """Raises BadInput, naming the key, for what does not go together. ``names``: the methods of the steps; ``text``:
    calibration is a text, whose tokens are all of one kind; ``measured``: ``evaluate.after_step``."""
    if weigh in PARTIAL and not ablation:
        raise BadInput(f"calibrate.weigh: got {weigh!r}, which leaves tokens out; accepted: pooled, balanced, or with "
                       "calibrate.audit: ablation also text, image")  # fmt: skip
    if weigh == "pooled" and not ablation:
        return
    if ablation and not measured:
        raise BadInput("evaluate.after_step: got 0; accepted with calibrate.audit: ablation: 1 or more, the test "
                       "samples on which its arms are compared")  # fmt: skip
    key, got = ("calibrate.audit", "ablation") if ablation else ("calibrate.weigh", weigh)
    if text:
        raise BadInput(f"{key}: got {got!r}, but calibration is a text, whose tokens are all of one kind; accepted: "
                       f"{'check' if ablation else 'pooled'}, or a calibrate.dataset with pictures")  # fmt: skip
    cards = [methods.get(name).CARD for name in names]
    for index, card in enumerate(cards):
        if card.needs == "gradients":
            raise BadInput(f"steps.{index}.{card.name}: weighs kinds of tokens by itself; accepted with it: "
                           "calibrate.weigh: pooled and calibrate.audit: check")  # fmt: skip
        if ablation and card.family not in LAYERWISE:
            raise BadInput(f"steps.{index}.{card.name}: calibrate.audit: 'ablation' fits the steps anew in each arm; "
                           f"accepted in it: methods of {', '.join(LAYERWISE)}")  # fmt: skip
    if not any(card.needs == "data" for card in cards if card.family in LAYERWISE):
        raise BadInput(f"{key}: got {got!r}, but no step reads calibration data; accepted: "
                       f"{'check' if ablation else 'pooled'}, or a step such as gptq, awq, wanda")  # fmt: skip
