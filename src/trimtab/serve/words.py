"""From tokens to text as they come: nothing is shown that could still change, nor any part of a stop sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

BROKEN = "\ufffd"
"""What decoders write for bytes that are no character, or not the whole of one yet."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Growing:
    """The text of the tokens that were added, without special ones; all parts together are the decoded whole, or what
    it adds to the text of the tokens ``before``."""

    def __init__(self, tokenizer: Any, before: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.ids = list(before)
        shown = self._decode(0, len(self.ids)) if before else ""
        if shown.endswith(BROKEN):  # in the middle of a character: its rest shows by itself
            self.ids, shown = [], ""
        self._from, self._read, self._shown = 0, len(self.ids), len(shown)

    def add(self, token: int) -> str:
        """What the token adds; a character whose bytes are not all there waits for them. Only what stands since the
        part before last is decoded again: the beginning of a text is written in its own way by some tokenizers."""
        self.ids.append(token)
        now = self._decode(self._from, len(self.ids))
        if now.endswith(BROKEN) or len(now) <= self._shown:
            return ""
        new = now[self._shown :]
        self._from, self._read = self._read, len(self.ids)
        self._shown = len(self._decode(self._from, self._read))
        return new

    def rest(self) -> str:
        """What still waited, at the end."""
        return self._decode(self._from, len(self.ids))[self._shown :]

    def _decode(self, start: int, end: int) -> str:
        return str(
            self.tokenizer.decode(self.ids[start:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


class Stopping:
    """Hands text on up to the first of ``stops``; what could be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops, self.held, self.found = tuple(stops), "", False

    def add(self, text: str) -> str:
        """What may be shown now; nothing more once one was ``found``."""
        if self.found:
            return ""
        text = self.held + text
        places = [at for at in map(text.find, self.stops) if at >= 0]
        if places:
            self.found, self.held = True, ""
            return text[: min(places)]
        keep = max((_begun(text, stop) for stop in self.stops), default=0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back and began no stop sequence after all."""
        held, self.held = self.held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` with which ``stop`` begins."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


class Spelling:
    """A token by itself, as text and in bytes (None where it is special): for lists of probabilities, where parts of
    characters have to be shown as well. Remembered: a long answer asks twenty times for each of its words."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special = frozenset(tokenizer.all_special_ids)
        self.by_bytes = "ByteLevel" in repr(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None))
        self.known: dict[int, tuple[str, bytes | None]] = {}

    def __call__(self, token: int) -> tuple[str, bytes | None]:
        found = self.known.get(token)
        if found is None:
            found = self.known[token] = self._spelled(token)
        return found

    def _spelled(self, token: int) -> tuple[str, bytes | None]:
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if piece is None or token in self.special:
            return piece or "", None
        byte = BYTE.fullmatch(piece)
        if byte:
            raw = bytes([int(byte[1], 16)])
        elif self.by_bytes and all(letter in letters() for letter in piece):
            raw = bytes(letters()[letter] for letter in piece)
        else:
            raw = piece.replace("▁", " ").encode()
        text = raw.decode(errors="replace")
        return (text if BROKEN not in text else "bytes:" + "".join(f"\\x{one:02x}" for one in raw)), raw


@lru_cache(maxsize=1)
def letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others from 256 on (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
