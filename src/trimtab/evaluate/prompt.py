"""From questions and pictures to the tensors that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from trimtab.core.errors import BadInput


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer in a processor, or the tokenizer that was given as such."""
    return getattr(processor, "tokenizer", processor)


def placeholder(processor: Any) -> str:
    """The text that stands for one picture. Raises BadInput for a model that takes no pictures."""
    token = getattr(processor, "image_token", None)
    if token is None:
        raise BadInput("task.type: this model's processor takes no pictures; accepted for it: a task without images")
    return str(token)


def render(processor: Any, question: str, pictures: int, template: str | None = None) -> tuple[str, bool]:
    """The prompt's text, and whether the tokenizer still has to add its special tokens.

    A ``template`` that holds the picture's placeholder is taken as it stands. Any other is what the user says, put,
    like the bare question, into the chat template; a model without one gets PLACEHOLDER NEWLINE QUESTION NEWLINE.
    """
    said = question if template is None else template.replace("{question}", question)
    if template is not None and pictures and placeholder(processor) in template:
        return said, True
    chat = getattr(processor, "chat_template", None)
    if chat is None:
        return "".join(f"{placeholder(processor)}\n" for _ in range(pictures)) + f"{said}\n", True
    if not hasattr(processor, "image_processor"):
        return processor.apply_chat_template([{"role": "user", "content": said}], tokenize=False,
                                             add_generation_prompt=True), False  # fmt: skip
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": said}]
    return processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False,
                                         add_generation_prompt=True), False  # fmt: skip


def encode(processor: Any, texts: Sequence[str], images: Sequence[Image.Image], special: bool) -> dict[str, Tensor]:
    """One picture a text, or none at all; padded on the left, as generation needs."""
    shown: dict[str, Any] = {"images": [[one] for one in images]} if images else {}
    return tensors(processor(text=list(texts), **shown, padding=True, padding_side="left", add_special_tokens=special,
                             return_token_type_ids=False, return_tensors="pt"))  # fmt: skip


def tensors(found: Any) -> dict[str, Tensor]:
    """What a processor gives, without labels. Token types are there only where it insists on them although they were
    not asked for: then the model's masks follow them (Gemma 3, PaliGemma)."""
    return {name: value for name, value in found.items() if name != "labels"}


def mean_picture(processor: Any, like: Image.Image) -> Image.Image:
    """A picture of the size of ``like`` that the processor normalises to about 0 everywhere."""
    mean = processor.image_processor.image_mean
    red, green, blue = (round(255 * float(one)) for one in mean)
    return Image.new("RGB", like.size, (red, green, blue))
