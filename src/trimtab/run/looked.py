"""The parts of a recipe that say what is looked at: calibration, evaluation, timing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from trimtab import methods
from trimtab.run.arms import Weigh


class Strict(BaseModel):
    """A part of a recipe: frozen, and with no room for keys that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Calibrate(Strict):
    """What calibration sees. ``dataset`` and ``split`` default to the task's own, training side.

    ``unseen``: what becomes of a linear that no sample reached (an expert that was never chosen): an error that names
    it, ``dense`` (left as it is) or ``round`` (the method's data-free form). ``allow: text_only`` rounds them unless it
    is set. ``weigh``: what image tokens count beside text in the decoder (see ``trimtab.run.arms``). ``audit:
    ablation`` fits the steps once for each way to weigh, and accepts none.
    """

    dataset: str | None = None
    split: str = "train"
    num_samples: int = Field(default=128, ge=1)
    max_seq_length: int = Field(default=512, ge=8)
    seed: int = 0
    allow: Literal["text_only"] | None = None
    unseen: Literal["refuse", "dense", "round"] = "refuse"
    batch_size: int = Field(default=32, ge=1)
    weigh: Weigh = "pooled"
    audit: Literal["check", "ablation"] = "check"

    @property
    def ablation(self) -> bool:
        return self.audit == "ablation"

    @property
    def unreached(self) -> Literal["refuse", "dense", "round"]:
        """What becomes of linears that no sample reached."""
        return "round" if self.unseen == "refuse" and self.allow == "text_only" else self.unseen


def _corruptions() -> tuple[str, ...]:
    return methods.of("robust")


class Robust(Strict):
    """``limit`` of the questions, asked again of pictures that are missing or corrupted, before and after (0: none)."""

    limit: int = Field(default=300, ge=0)
    corruptions: tuple[str, ...] = Field(default_factory=_corruptions)
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = (3,)
    missing_image: bool = True


class Evaluate(Strict):
    """How much is measured. ``limit`` questions before and after, ``after_step`` after each step.

    ``until: decided`` stops asking the artifact at the first of a few set looks that decides on ``budget.accuracy``;
    ``max_minutes`` ends each evaluation; ``reuse`` takes the untouched model's answers from an earlier run's.
    """

    limit: int = Field(default=2000, ge=1)
    after_step: int = Field(default=500, ge=0)
    robust: Robust = Robust()
    batch_size: int = Field(default=64, ge=1)
    max_new_tokens: int = Field(default=32, ge=1)
    until: Literal["decided"] | None = None
    max_minutes: float | None = Field(default=None, gt=0)
    reuse: bool = True


class Measure(Strict):
    """What is timed: language prefill on ``dataset`` at batch 1 and ``batch_size``, ``repeats`` times, in turn; after
    ``max_minutes`` at one batch size no round is begun, but for the first five. ``prompt_tokens``: of a text prompt.
    ``efficiency``: whether joules, the idealized runtime and the six figures of efficiency are taken as well."""

    dataset: str | None = None
    batch_size: int = Field(default=8, ge=1)
    repeats: int = Field(default=25, ge=3)
    max_minutes: float = Field(default=1.0, gt=0)
    prompt_tokens: int = Field(default=256, ge=8)
    efficiency: bool = True
