"""From a conversation, a text or token ids to what a model takes, by its own chat template where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from trimtab.evaluate.prompt import placeholder, tensors, tokenizer_of
from trimtab.load.loaded import Loaded
from trimtab.serve.answer import Prompt
from trimtab.serve.errors import ApiError, bad
from trimtab.serve.lengths import over
from trimtab.serve.roles import UNFIT, rendered
from trimtab.serve.schema import ImagePart, Message

BEFORE = 8
"""Tokens of a text behind which its completion is decoded, or the space before its first word would be lost."""


def links(messages: Sequence[Message]) -> list[str]:
    """The URLs of all pictures, in their order."""
    return [part.image_url.url for one in messages if not isinstance(one.content, str)
            for part in one.content if isinstance(part, ImagePart)]  # fmt: skip


def of_chat(loaded: Loaded, messages: Sequence[Message], images: Sequence[Image.Image], most: int) -> Prompt:
    """A conversation. Raises ApiError 400 for roles that its template refuses, for words that stand for pictures, and
    for more than ``most`` tokens."""
    text, special = written(loaded.processor, messages)
    return _made(loaded, text, special, images, most)


def of_text(loaded: Loaded, text: str, most: int) -> Prompt:
    """A text as it stands, with the special tokens that the tokenizer puts around one."""
    tokenizer = tokenizer_of(loaded.processor)
    _fits(tokenizer, text, most)
    found = tokenizer(text, return_token_type_ids=False, return_tensors=None)
    ids = found["input_ids"] or _beginning(loaded)
    return of_ids(loaded, ids, most, text)


def of_ids(loaded: Loaded, ids: Sequence[int], most: int, text: str | None = None) -> Prompt:
    """Tokens as they are. Raises ApiError 400 for one that is none, or that stands for a picture."""
    words = loaded.library.config.get_text_config().vocab_size
    image = getattr(loaded.library.config, "image_token_id", None)
    if max(ids) >= words:
        raise bad(f"prompt: got token {max(ids)}; accepted: 0 to {words - 1}", "prompt")
    _short(len(ids), most)
    if image is not None and image in ids and loaded.anatomy.INPUTS:
        raise bad("prompt: holds the token of a picture; accepted: pictures in /v1/chat/completions", "prompt")
    made = torch.tensor([list(ids)], dtype=torch.long)
    if text is None:
        text = str(loaded.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return Prompt({"input_ids": made, "attention_mask": torch.ones_like(made)}, len(ids), text=text,
                  before=tuple(ids[-BEFORE:]))  # fmt: skip


def written(processor: Any, messages: Sequence[Message]) -> tuple[str, bool]:
    """The conversation's text, and whether special tokens are still to be added. A model without a template gets, of
    each message, PLACEHOLDER NEWLINE for every picture, then the text and NEWLINE."""
    sees = hasattr(processor, "image_processor")
    if getattr(processor, "chat_template", None) is None:
        return "".join(_plainly(processor, one) for one in messages), True
    return rendered(processor, [{"role": one.role, "content": _content(one, sees)} for one in messages]), False


def _content(message: Message, sees: bool) -> Any:
    parts = _parts(message)
    if sees:
        return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    return "\n".join(part for part in parts if part is not None)


def _plainly(processor: Any, message: Message) -> str:
    parts = _parts(message)
    pictures = "".join(f"{placeholder(processor)}\n" for part in parts if part is None)
    return pictures + "\n".join(part for part in parts if part is not None) + "\n"


def _parts(message: Message) -> list[str | None]:
    """Texts, and None for a picture."""
    if isinstance(message.content, str):
        return [message.content]
    return [None if isinstance(part, ImagePart) else part.text for part in message.content]


def _made(loaded: Loaded, text: str, special: bool, images: Sequence[Image.Image], most: int) -> Prompt:
    if images and text.count(placeholder(loaded.processor)) != len(images):
        raise bad("messages: the text holds the model's own sign of a picture; accepted: pictures as image_url parts",
                  "messages")  # fmt: skip
    _fits(tokenizer_of(loaded.processor), text, most)
    shown: dict[str, Any] = {"images": [list(images)]} if images else {}
    try:
        batch = tensors(loaded.processor(text=[text], **shown, add_special_tokens=special, return_token_type_ids=False,
                                         return_tensors="pt"))  # fmt: skip
    except UNFIT as error:
        raise bad(f"messages: the model's processor takes no such prompt ({type(error).__name__})",
                  "messages") from error  # fmt: skip
    if "pixel_values" in batch:
        batch["pixel_values"] = batch["pixel_values"].to(loaded.library.dtype)
    length = batch["input_ids"].shape[1]
    if not length:
        return of_ids(loaded, _beginning(loaded), most, text)
    _short(length, most)
    image = getattr(loaded.library.config, "image_token_id", None)
    count = int((batch["input_ids"] == image).sum()) if images and image is not None else 0
    return Prompt(batch, length, count, text)


def _beginning(loaded: Loaded) -> list[int]:
    """What an empty prompt is: the token with which texts begin."""
    words = loaded.tokenizer
    first = words.bos_token_id if words.bos_token_id is not None else words.eos_token_id
    if first is None:
        raise bad("prompt: got nothing; accepted: a word or more", "prompt")
    return [int(first)]


def _fits(tokenizer: Any, text: str, most: int) -> None:
    if over(tokenizer, text, most):
        raise too_long(f"the prompt has more than {most} tokens; accepted: at most {most}")


def _short(length: int, most: int) -> None:
    if length > most:
        raise too_long(f"the prompt has {length} tokens; accepted: at most {most}")


def too_long(message: str) -> ApiError:
    return bad(message, "messages", "context_length_exceeded")
