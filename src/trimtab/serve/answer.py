"""One answer as it grows: words, the text that may be shown of them, and why it ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from trimtab.anatomy.base import Batch
from trimtab.serve.chances import Chance, chance, chances
from trimtab.serve.drawing import Drawing, Rules, Wish
from trimtab.serve.words import Growing, Stopping


@dataclass(frozen=True)
class Prompt:
    """``batch`` as the model takes it, of one row and ``length`` tokens, ``images`` of which stand for pictures;
    ``text`` of it, for those who want it back. ``before``: its last tokens, where the answer goes on with its text."""

    batch: Batch
    length: int
    images: int = 0
    text: str = ""
    before: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """What came of the answer of that ``index``: ``words`` so many, ``finish``: why it ended, None while it goes on."""

    index: int
    text: str = ""
    chances: tuple[Chance, ...] = ()
    words: int = 0
    finish: str | None = None


@dataclass(frozen=True)
class Speech:
    """What a model brings along: its ``tokenizer``, the words that ``ends`` an answer, and its own ``rules``."""

    tokenizer: Any
    ends: Collection[int]
    rules: Rules


class Answer:
    """``index`` among those of a request. ``gone``: how many tokens policies took out of the prompt, once that is
    read."""

    def __init__(self, index: int, prompt: Prompt, wish: Wish, speech: Speech) -> None:
        self.index, self.prompt, self.wish, self.speech = index, prompt, wish, speech
        self.ids: list[int] = []
        self.gone = 0
        self._growing, self._stopping = Growing(speech.tokenizer, prompt.before), Stopping(wish.stops)
        self._drawing: Drawing | None = None
        self._length = len(prompt.text) if wish.echo else 0
        self._waiting: list[Chance] = []

    def see(self, logits: Float[Tensor, "rows words"]) -> None:
        """Logits of the prompt's next tokens: each says how likely the one behind it was."""
        assert self.wish.top is not None
        ids = self.prompt.batch["input_ids"][0]
        if not self._waiting:
            self._waiting.append(Chance(int(ids[0]), None))
        first = len(self._waiting)
        behind = ids[first : first + len(logits)].tolist()
        if behind:
            self._waiting += chances(logits[: len(behind)], behind, self.wish.top)

    def echo(self) -> Piece:
        """The prompt as the beginning of the answer."""
        found, self._waiting = self._placed(self._waiting), []
        return Piece(self.index, self.prompt.text, tuple(found))

    def _placed(self, found: list[Chance]) -> list[Chance]:
        """With where the text of each of the prompt's tokens begins."""
        growing, at, made = Growing(self.speech.tokenizer), 0, []
        for one in found:
            made.append(Chance(one.token, one.logprob, one.best, at))
            at = min(at + len(growing.add(one.token)), len(self.prompt.text))
        return made

    def next(self, logits: Float[Tensor, " words"]) -> Piece:
        """The next word by ``logits``, and what of the text may be shown by now."""
        if self._drawing is None:
            self._drawing = Drawing(self.wish, self.speech.rules, self.prompt.batch["input_ids"])
        token = self._drawing.next(logits, self.ids)
        self.ids.append(token)
        if self.wish.top is not None:
            at = self._length + len(self._stopping.held)
            self._waiting.append(chance(logits, token, self.wish.top, at))
        ended = token in self.speech.ends
        text = "" if ended else self._stopping.add(self._growing.add(token))
        full = len(self.ids) >= self.wish.most
        if (ended or full) and not self._stopping.found:
            text += self._stopping.add(self._growing.rest())
            text += self._stopping.rest()
        finish = "stop" if ended or self._stopping.found else "length" if full else None
        self._length += len(text)
        return Piece(self.index, text, self._told(text, finish), 1, finish)

    def _told(self, text: str, finish: str | None) -> tuple[Chance, ...]:
        """Those whose text is shown by now: a word that is held back is told with its text, one behind a stop never."""
        if not text and finish is None:
            return ()
        told = [one for one in self._waiting if one.at < self._length or (finish and not self._stopping.found)]
        self._waiting = [] if finish else self._waiting[len(told) :]
        return tuple(told)
