"""Tokenizers in GGUF's keys: what can be expressed, and that llama.cpp's rule for scores cuts as the merges do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import decoders as small
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trimtab.export.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER, Vocabulary, vocabulary


def wrapped(bare: Tokenizer, **more: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", eos_token="</s>", pad_token="<pad>", **more)


def by_scores(text: str, found: Vocabulary) -> list[int]:
    """SentencePiece's rule: of all neighbours that make a token, the pair with the highest score is joined, the
    leftmost first, until none is left; letters that are no token become their bytes."""
    rows, pieces = {token: row for row, token in enumerate(found.tokens)}, list(text.replace(" ", "\u2581"))
    while True:
        joined = enumerate(left + right for left, right in pairwise(pieces))
        pairs = [(found.scores[rows[token]], -at) for at, token in joined if token in rows]
        if not pairs:
            break
        at = -max(pairs)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    octets = [[piece] if piece in rows else [f"<0x{byte:02X}>" for byte in piece.encode()] for piece in pieces]
    return [rows[piece] for group in octets for piece in group]


def test_scores_cut_as_merges_do() -> None:
    tokenizer = wrapped(small.sentence_piece(), unk_token="<unk>")
    found = vocabulary(tokenizer, small.SIZE)
    assert isinstance(found, Vocabulary)
    assert (found.model, found.pre, found.prefix) == ("llama", "default", False)
    rng = random.Random(0)
    for _ in range(50):
        text = "".join(
            rng.choice(["hell", "hello", "in", "the", "ou", "er", " ", "l", "h", "\u00e9", "x"]) for _ in range(12)
        )
        assert by_scores(text, found) == tokenizer(text, add_special_tokens=False).input_ids
    kinds = dict(zip(found.tokens, found.kinds, strict=True))
    assert [kinds[token] for token in ("<s>", "<unk>", "<0x0A>", "hello")] == [CONTROL, UNKNOWN, BYTE, NORMAL]
    assert found.kinds[-1] == UNUSED
    assert len(found.tokens) == len(found.scores) == small.SIZE


@pytest.mark.parametrize("rule", ["gpt-2", "llama-bpe", "qwen2"])
def test_byte_level_vocabularies_go_by_the_name_of_their_rule(rule: str) -> None:
    tokenizer = wrapped(small.byte_level(rule))
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    found = vocabulary(tokenizer, small.SIZE)
    assert isinstance(found, Vocabulary)
    assert (found.model, found.pre) == ("gpt2", rule)
    assert found.ranks[0] == "h e"
    assert found.kinds[found.tokens.index("<think>")] == USER
    assert found.tokens[-1] == f"[PAD{small.SIZE - 1}]"
    assert [found.tokens[row] for row in tokenizer("hello").input_ids] == ["<s>", "hello"]


def odd_merges(merges: Sequence[tuple[str, str]]) -> Tokenizer:
    letters = ["<pad>", "<s>", "</s>", *"abc", "ab", "bc", "abc"]
    return Tokenizer(models.BPE({word: row for row, word in enumerate(letters)}, list(merges), byte_fallback=True))


@pytest.mark.parametrize(
    ("bare", "words"),
    [
        (Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<pad>": 2, "a": 3}, unk_token="a")), "WordLevel"),
        (odd_merges([("a", "b"), ("b", "c"), ("ab", "c")]), "score of each token"),  # a + bc makes abc, unlisted
        (odd_merges([("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")]), "score of each token"),  # abc comes twice
    ],
)
def test_what_cannot_be_expressed_is_said(bare: Tokenizer, words: str) -> None:
    found = vocabulary(wrapped(bare), 16)
    assert isinstance(found, str)
    assert words in found


def test_an_unknown_rule_of_splitting_is_said() -> None:
    bare = small.byte_level("gpt-2")
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert "no name for its rule" in str(vocabulary(wrapped(bare), small.SIZE))
    assert vocabulary(None, 4) == "there is none"


def test_complete_merges_in_the_order_of_scores_are_taken() -> None:
    found = vocabulary(wrapped(odd_merges([("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")])), 16)
    assert isinstance(found, Vocabulary)
    assert [found.scores[found.tokens.index(token)] for token in ("ab", "bc", "abc")] == [0, -1, -2]
