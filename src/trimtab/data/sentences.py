"""Sentences of a text, for encoders that embed one sentence at a time."""

from __future__ import annotations

import re

ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
LEAST, MOST = 6, 60  # words
SHARE = 0.85
"""Of a sentence's characters that are letters or blanks; code, grammars and tables have fewer."""


def sentences(text: str) -> list[str]:
    """The distinct sentences of ``text``, in order, each on one line.

    A sentence begins with a capital after the end of another one or at the beginning of a paragraph, ends with a full
    stop, has 6 to 60 words, and at least 85 % of its characters are letters or blanks.
    """
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        found += [one for one in ENDS.split(" ".join(paragraph.split())) if _prose(one)]
    return list(dict.fromkeys(found))


def _prose(one: str) -> bool:
    if not one[:1].isupper() or not one.endswith(".") or not LEAST <= len(one.split()) <= MOST:
        return False
    return sum(char.isalpha() or char == " " for char in one) >= SHARE * len(one)
