"""A tokenizer in GGUF's keys: byte-level BPE (``gpt2``), BPE of SentencePiece (``llama``), or none.

llama.cpp splits text by a rule that it knows by name, so a byte-level vocabulary can be written only where its rule is
one of ``RULES``. SentencePiece's merges are no list there but follow from a score of each token, the highest first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
RULES = {"gpt-2": "", "llama-bpe": rf"{WORDS}|\p{{N}}{{1,3}}|{REST}", "qwen2": rf"{WORDS}|\p{{N}}|{REST}"}
"""Name of the rule -> the expression that a tokenizer's file states for it; GPT-2's is the byte level's own."""
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"
ROLES = ("bos", "eos", "unk", "pad")


@dataclass(frozen=True)
class Vocabulary:
    """``model``: ``gpt2`` or ``llama``. ``pre``: the splitting rule. ``ranks``: merges in order, for ``gpt2``.
    ``scores``: for ``llama``. ``kinds``: GGUF's token types."""

    model: str
    pre: str
    tokens: Sequence[str]
    kinds: Sequence[int]
    ranks: Sequence[str] = ()
    scores: Sequence[float] = ()
    prefix: bool = False


def vocabulary(tokenizer: Any, size: int) -> Vocabulary | str:
    """The vocabulary with ``size`` rows, or why it cannot be expressed."""
    if tokenizer is None:
        return "there is none"
    if not tokenizer.is_fast:
        return f"a {type(tokenizer).__name__} has no description of its own"
    said = json.loads(tokenizer.backend_tokenizer.to_str())
    model = said["model"]
    if model["type"] != "BPE":
        return f"its model is {model['type']}; GGUF has BPE"
    merges = [(left, right) for left, right in model["merges"]]
    if model.get("byte_fallback"):
        return _sentencepiece(tokenizer, said, merges, size)
    rule = _rule(said.get("pre_tokenizer"))
    names = [name for name, expression in RULES.items() if expression == rule]
    if not names:
        return "llama.cpp has no name for its rule of splitting text"
    tokens, kinds = _tokens(said, size)
    return Vocabulary("gpt2", names[0], tokens, kinds, [f"{left} {right}" for left, right in merges])


def _rule(pre: Mapping[str, Any] | None) -> str | None:
    """The expression before a byte level, "" for the byte level's own; None where it is another chain."""
    steps = [] if pre is None else pre.get("pretokenizers", [pre])
    match [step["type"] for step in steps]:
        case ["ByteLevel"] if steps[0]["use_regex"] and not steps[0]["add_prefix_space"]:
            return ""
        case ["Split", "ByteLevel"] if not steps[1]["use_regex"] and not steps[1]["add_prefix_space"]:
            found: str | None = steps[0]["pattern"].get("Regex")
            return found if steps[0]["behavior"] == "Isolated" else None
    return None


def _sentencepiece(
    tokenizer: Any, said: Mapping[str, Any], merges: Sequence[tuple[str, str]], size: int
) -> Vocabulary | str:
    order = [token for token, _ in groupby(left + right for left, right in merges)]
    if len(order) != len(set(order)) or _unlisted(said, set(merges)):
        return "its merges do not follow from a score of each token"
    score = {token: -float(rank) for rank, token in enumerate(order)}
    tokens, kinds = _tokens(said, size)
    kinds = [BYTE if kind == NORMAL and re.fullmatch(r"<0x[0-9A-F]{2}>", token) else kind
             for token, kind in zip(tokens, kinds, strict=True)]  # fmt: skip
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id < size:
        kinds[tokenizer.unk_token_id] = UNKNOWN
    first = tokenizer.backend_tokenizer.encode("a", add_special_tokens=False).tokens[0]
    return Vocabulary("llama", "default", tokens, kinds, scores=[score.get(token, 0.0) for token in tokens],
                      prefix=first.startswith(SPACE))  # fmt: skip


def _unlisted(said: Mapping[str, Any], merges: set[tuple[str, str]]) -> bool:
    """Whether two tokens that are not merged make a third one: by scores they would be."""
    vocabulary = said["model"]["vocab"]
    whole = {added["content"] for added in said["added_tokens"]}
    return any(
        token[:cut] in vocabulary and token[cut:] in vocabulary and (token[:cut], token[cut:]) not in merges
        for token in vocabulary if token not in whole for cut in range(1, len(token))
    )  # fmt: skip


def _tokens(said: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Text and type of every row; rows without a token are unused, tokens without a row are left out."""
    tokens, kinds = [f"[PAD{row}]" for row in range(size)], [UNUSED] * size
    for token, row in said["model"]["vocab"].items():
        if row < size:
            tokens[row], kinds[row] = token, NORMAL
    for added in said["added_tokens"]:
        if (row := added["id"]) < size:
            tokens[row] = added["content"] if added["special"] else added["content"].replace(SPACE, " ")
            kinds[row] = CONTROL if added["special"] else USER
    return tokens, kinds


def describe(writer: Any, tokenizer: Any, template: Any, size: int) -> None:
    """The tokenizer's keys; of one that cannot be expressed the word ``none``, as llama.cpp's converter writes it."""
    found = vocabulary(tokenizer, size)
    if isinstance(found, str):
        writer.add_tokenizer_model("none")
        return
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.kinds)
    if found.ranks:
        writer.add_token_merges(found.ranks)
    if found.scores:
        writer.add_token_scores(found.scores)
        writer.add_add_space_prefix(found.prefix)
    _roles(writer, tokenizer, size)
    if isinstance(template, str):
        writer.add_chat_template(template)


def _roles(writer: Any, tokenizer: Any, size: int) -> None:
    """Which tokens begin and end a text, and whether the tokenizer puts them there itself."""
    ids = {role: getattr(tokenizer, f"{role}_token_id") for role in ROLES}
    for role, row in ids.items():
        if row is not None and row < size:
            getattr(writer, f"add_{role}_token_id")(row)
    around = tokenizer("a").input_ids
    writer.add_add_bos_token(ids["bos"] is not None and around[0] == ids["bos"])
    writer.add_add_eos_token(ids["eos"] is not None and around[-1] == ids["eos"])
