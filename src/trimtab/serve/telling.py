"""Answers in the forms of OpenAI's API, whole or in chunks, with what we add: policies, engine, times, pictures."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trimtab.serve.answer import Answer, Piece, Prompt
from trimtab.serve.chances import Chance, in_chat, in_completion
from trimtab.serve.names import Entry

DONE = b"data: [DONE]\n\n"


@dataclass
class Tally:
    """Of one request: when it came, when its first and last words did, and how many there are of what."""

    entry: Entry
    prompts: Sequence[Prompt]
    arrived: float
    answers: Sequence[Answer] = ()
    first: float | None = None
    last: float = 0.0
    words: int = 0

    def count(self, piece: Piece) -> None:
        if piece.words:
            self.last = time.monotonic()
            self.first = self.first or self.last
            self.words += piece.words

    @property
    def read(self) -> int:
        return sum(one.length for one in self.prompts)

    @property
    def each(self) -> float | None:
        """Seconds for each word behind the first."""
        return None if self.first is None or self.words < 2 else (self.last - self.first) / (self.words - 1)

    def usage(self) -> dict[str, Any]:
        return {"prompt_tokens": self.read, "completion_tokens": self.words, "total_tokens": self.read + self.words}

    def ours(self) -> dict[str, Any]:
        """What was done to the model that answered, and how fast it was."""
        seen, gone = sum(one.prompt.images for one in self.answers), sum(one.gone for one in self.answers)
        return {
            "policies": self.entry.policies, "engine": self.entry.engine,
            "seconds_to_first_token": None if self.first is None else round(self.first - self.arrived, 6),
            "tokens_per_second": None if not self.each else round(1 / self.each, 3),
            "image_tokens": {"seen": seen, "kept": seen - gone} if seen else None,
        }  # fmt: skip


@dataclass
class Whole:
    """A choice as far as it has come."""

    text: str = ""
    chances: list[Chance] = field(default_factory=list)
    finish: str | None = None

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.chances += piece.chances
        self.finish = piece.finish or self.finish


class Teller:
    """What chats and completions have in common. ``logprobs``: whether they are told."""

    prefix, whole, part = "", "", ""

    def __init__(self, tally: Tally, logprobs: bool, usage: bool = False) -> None:
        self.tally, self.logprobs, self.usage = tally, logprobs, usage
        self.id = f"{self.prefix}-{secrets.token_hex(12)}"
        self.created = int(time.time())

    def told(self, choices: Sequence[Whole]) -> dict[str, Any]:
        """The answer as one document."""
        rows = [
            {"index": at, "finish_reason": one.finish, "logprobs": self.listed(one.chances)} | self.text(one.text)
            for at, one in enumerate(choices)
        ]
        return self._head(self.whole) | {
            "choices": rows, "usage": self.tally.usage(), "trimtab": self.tally.ours(),
        }  # fmt: skip

    def chunk(self, piece: Piece) -> bytes:
        """A part of a stream."""
        row = {"index": piece.index, "finish_reason": piece.finish,
               "logprobs": self.listed(piece.chances) if piece.chances else None} | self.delta(piece.text)  # fmt: skip
        return self._event([row], {"trimtab": self.tally.ours()} if piece.finish else {})

    def end(self) -> bytes:
        """What ends a stream."""
        if not self.usage:
            return DONE
        return sse(self._head(self.part) | {
            "choices": [], "usage": self.tally.usage(), "trimtab": self.tally.ours()
        }) + DONE  # fmt: skip

    def begin(self, index: int) -> bytes:
        """What comes before the first part of a choice."""
        return b""

    def text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def delta(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def listed(self, found: Sequence[Chance]) -> dict[str, Any] | None:
        return in_completion(self.tally.entry.spelled, found) if self.logprobs else None

    def _event(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> bytes:
        return sse(self._head(self.part) | {"choices": choices} | ({"usage": None} if self.usage else {}) | more)

    def _head(self, kind: str) -> dict[str, Any]:
        said = self.tally.entry.loaded.manifest
        mark = self.tally.entry.loaded.source.revision if said is None else said.content_hash
        return {"id": self.id, "object": kind, "created": self.created, "model": self.tally.entry.id,
                "system_fingerprint": f"fp_{mark.rpartition(':')[2][:12]}"}  # fmt: skip


class OfCompletion(Teller):
    prefix, whole, part = "cmpl", "text_completion", "text_completion"


class OfChat(Teller):
    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def begin(self, index: int) -> bytes:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._event([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}], {})

    def text(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    def listed(self, found: Sequence[Chance]) -> dict[str, Any] | None:
        return in_chat(self.tally.entry.spelled, found) if self.logprobs else None


def sse(document: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json_of(document) + b"\n\n"


def json_of(document: dict[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
