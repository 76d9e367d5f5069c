"""Sentences of a text."""

from __future__ import annotations

from trimtab.data.sentences import sentences
from trimtab.data.text import calibration, evaluation


def test_what_is_a_sentence() -> None:
    text = """A Title
*******

This is the first sentence of a paragraph, which
goes on in a second line.  The next one of them stands behind it. too short.

Call f(a[0:3], x=1) with (1, 2, 3, 4) == [5, 6, 7, 8] here.

this one does not begin as sentences do, so it is none.

It has no full stop at its end and is none either

This is the first sentence of a paragraph, which goes on in a second line. Not six words here.
"""
    assert sentences(text) == [
        "This is the first sentence of a paragraph, which goes on in a second line.",
        "The next one of them stands behind it. too short.",
    ]
    assert sentences("Is " * 61 + "it.") == []


def test_the_built_in_texts_have_many_and_share_none() -> None:
    asked, fitted = sentences(evaluation()), sentences(calibration())
    assert len(asked) > 1000
    assert len(fitted) > 1000
    assert not set(asked) & set(fitted)
