"""The calibration audit: does calibration see what the task will show? Asked before anything is fitted.

Refused when the share of image tokens, or the pictures for each sample, is under half of the task's, or when a linear
would see fewer rows than its input is wide. ``allow: text_only`` overrides it for pictures and what they pass through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trimtab.anatomy import Anatomy
from trimtab.core.errors import Refused
from trimtab.core.linear import Linear
from trimtab.core.stats import IMAGE, KINDS
from trimtab.run.batches import Batch
from trimtab.run.settle import LayerReport

Verdict = Literal["passed", "overridden", "not needed"]
FLAT = 1e-6
"""A picture whose colours vary by less than this within every channel is blank."""


@dataclass(frozen=True)
class Counts:
    """What a set of batches holds. ``image`` counts tokens that stand for pictures, ``patches`` the rows of the vision
    tower, blank pictures included in both; ``blank`` of ``pictures`` show nothing."""

    samples: int = 0
    text: int = 0
    image: int = 0
    padding: int = 0
    pictures: int = 0
    blank: int = 0
    patches: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self._row(), other._row(), strict=True)))

    def _row(self) -> tuple[int, ...]:
        return self.samples, self.text, self.image, self.padding, self.pictures, self.blank, self.patches

    @property
    def image_share(self) -> float:
        """Image tokens of pictures that show something, over all tokens."""
        tokens = self.text + self.image
        shown = 1 - self.blank / self.pictures if self.pictures else 0.0
        return self.image * shown / tokens if tokens else 0.0

    @property
    def pictures_per_sample(self) -> float:
        return (self.pictures - self.blank) / self.samples if self.samples else 0.0


@dataclass(frozen=True)
class Audit:
    """``layers``: for each linear its name, part, input width, and rows by kind."""

    verdict: Verdict
    samples: int
    image_share: float
    task_image_share: float
    layers: tuple[Mapping[str, Any], ...]
    shortfalls: tuple[str, ...] = ()


def count(anatomy: Anatomy, batches: Iterable[Batch]) -> Counts:
    """The counting pass: ids, masks and pictures, no block is run.

    Raises Refused where a processor dropped pictures: image tokens without pictures or the reverse, or a number of
    image tokens that the pictures do not divide.
    """
    with torch.no_grad():
        return sum((_count(anatomy, batch, index) for index, batch in enumerate(batches)), Counts())


def _count(anatomy: Anatomy, batch: Batch, index: int) -> Counts:
    pictures, patches = anatomy.pictures(batch), 0
    if len(pictures):
        stream = anatomy.start(batch)
        patches = int((stream.kinds == IMAGE).sum())
    ids = batch.get("input_ids")
    if ids is None:
        return Counts(len(pictures), 0, patches, 0, len(pictures), _blank(pictures), patches)
    valid = batch.get("attention_mask", torch.ones_like(ids)).bool()
    placeholder = _placeholder(anatomy)
    if placeholder is None:
        image, text = patches, int(valid.sum())
    else:
        image = int((valid & (ids == placeholder)).sum())
        text = int(valid.sum()) - image
        _dropped(image, len(pictures), index, anatomy.EVEN)
    return Counts(len(ids), text, image, int((~valid).sum()), len(pictures), _blank(pictures), patches)


def _placeholder(anatomy: Anatomy) -> int | None:
    """The id of the words that stand for pictures; None where the language side sees none (CLIP's two towers)."""
    found: int | None = getattr(anatomy.model.config, "image_token_id", None)
    return found


def _blank(pictures: Sequence[Tensor]) -> int:
    """How many of (channels, pixels) are of one colour."""
    return sum(bool(((one.amax(1) - one.amin(1)) <= FLAT).all()) for one in pictures)


def _dropped(image: int, pictures: int, index: int, even: bool) -> None:
    if bool(image) != bool(pictures) or (pictures and even and image % pictures):
        raise Refused(
            f"calibration batch {index}: the processor left {image} image tokens for {pictures} pictures; each picture "
            "needs its own. Look at truncation (max_seq_length) and at the prompt's image placeholder"
        )


def expected(anatomy: Anatomy, counts: Counts, names: Sequence[str]) -> list[dict[str, Any]]:
    """What each linear of ``names`` will see, as far as counting can tell (linears that nothing runs are left out)."""
    idle, linears = set(anatomy.idle()), dict(anatomy.linears())
    return [
        _layer(anatomy, linears[name], _rows(anatomy, name, counts))
        for name in names
        if name in linears and name not in idle
    ]


def _rows(anatomy: Anatomy, name: str, counts: Counts) -> dict[str, int]:
    """Rows by kind at one linear: of patches, of tokens, or one for each picture or text where these are pooled."""
    one, zeros = anatomy.pooled(name), dict.fromkeys(KINDS, 0)
    part = anatomy.part_of(name)
    if part in ("vision", "projector"):
        merged = part == "projector" and _placeholder(anatomy) is not None and not anatomy.PACKED
        return zeros | {"image": counts.pictures if one else counts.image if merged else counts.patches}
    if one:
        return zeros | {"text": counts.samples}
    image = 0 if _placeholder(anatomy) is None else counts.image
    return zeros | {"text": counts.text, "image": image, "padding": counts.padding}


def measured(anatomy: Anatomy, reports: Iterable[LayerReport]) -> list[dict[str, Any]]:
    """What each fitted linear did see, from the walk's reports (those without data are left out)."""
    linears = dict(anatomy.linears())
    return [_layer(anatomy, linears[r.name], r.seen) for r in reports if r.name in linears and any(r.seen.values())]


def _layer(anatomy: Anatomy, host: Linear, seen: Mapping[str, int]) -> dict[str, Any]:
    return {"name": host.name, "part": anatomy.part_of(host.name), "width": host.in_features, **seen}


def audit(
    counts: Counts, task: Counts, layers: Sequence[Mapping[str, Any]], allow: Literal["text_only"] | None = None
) -> Audit:
    """Hold calibration against a sample of the task, and each linear's rows against its width.

    Raises Refused with every shortfall, unless ``allow`` overrides all of them.
    """
    blind, narrow = _seeing(counts, task), list[str]()
    for layer in layers:
        rows = sum(layer.get(kind, 0) for kind in KINDS if kind != "padding")
        if rows < layer["width"]:
            seen_through = layer["part"] in ("vision", "projector")
            (blind if seen_through else narrow).append(
                f"{layer['name']} sees {rows} rows, {layer['width'] - rows} fewer than its input is wide"
            )
    wrong = narrow if allow == "text_only" else blind + narrow
    if wrong:
        more = f"\n... and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        raise Refused(
            "calibration: " + "\n".join(wrong[:6]) + more + "\nUse more samples (calibrate.num_samples) that are like "
            "the task's, with their pictures" + ("" if allow else ", or calibrate.allow: text_only")
        )
    verdict: Verdict = "overridden" if blind else "passed"
    return Audit(verdict, counts.samples, counts.image_share, task.image_share, tuple(layers), tuple(blind))


def _seeing(counts: Counts, task: Counts) -> list[str]:
    """What calibration lacks in pictures, against the task."""
    note = f" ({counts.blank} of {counts.pictures} pictures are blank)" if counts.blank else ""
    found = []
    if counts.image_share < task.image_share / 2:
        found.append(
            f"image tokens are {counts.image_share:.1%} of calibration and {task.image_share:.1%} of the task; at "
            f"least half of that is needed{note}"
        )
    if counts.pictures_per_sample < task.pictures_per_sample / 2:
        found.append(
            f"{counts.pictures_per_sample:.2f} pictures per sample in calibration, {task.pictures_per_sample:.2f} in "
            f"the task; at least half of that is needed{note}"
        )
    return found


NOT_NEEDED = Audit("not needed", 0, 0.0, 0.0, ())
"""For runs of methods that read no data."""
