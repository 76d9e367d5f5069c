"""Texts that are too long for a model, found without reading them whole."""

from __future__ import annotations

from typing import Any

CHARACTERS = 8
"""Of a token, to begin with."""
MARGIN = 64
"""Tokens by which a beginning may be longer than the same words in the whole: a cut through a word, a special token or
a composed character makes a few."""


def over(tokenizer: Any, text: str, most: int) -> bool:
    """Whether a beginning of ``text`` has more than ``most`` tokens, with a margin; False says nothing.

    Beginnings grow fourfold, so a text is read at most 4/3 times, and one that is far too long only as far as it could
    fit. By the longest token of the vocabulary it cannot be said: tokenizers drop blanks, and take any word for one
    unknown token.
    """
    size = CHARACTERS * (most + MARGIN)
    while size < len(text):
        if len(tokenizer(text[:size], add_special_tokens=False)["input_ids"]) > most + MARGIN:
            return True
        size *= 4
    return False
