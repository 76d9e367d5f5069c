"""A chat or completion from its validated request to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trimtab.serve.answer import Answer, Piece, Prompt, Speech
from trimtab.serve.deadline import Deadline
from trimtab.serve.desk import Desk
from trimtab.serve.drawing import Wish, ends_of, rules_of
from trimtab.serve.errors import bad
from trimtab.serve.limits import Limits
from trimtab.serve.names import Entry
from trimtab.serve.pictures import Fetch, decoded
from trimtab.serve.prompts import links, of_chat, of_ids, of_text, too_long
from trimtab.serve.schedule import Job
from trimtab.serve.schema import Chat, Completion, Drawn
from trimtab.serve.telling import OfChat, OfCompletion, Tally, Teller, Whole, json_of

WORDS = 16
"""Of a completion that does not say how many, as in OpenAI's API."""


@dataclass(frozen=True)
class Speaker:
    """An ``entry`` that speaks."""

    entry: Entry
    limits: Limits
    fetch: Fetch | None = None

    @cached_property
    def speech(self) -> Speech:
        library = self.entry.loaded.library
        return Speech(self.entry.loaded.tokenizer, ends_of(library), rules_of(library))

    @property
    def longest(self) -> int:
        """Tokens of a prompt."""
        return min(self.limits.tokens, (self.entry.context or self.limits.tokens + 1) - 1)

    def links(self, asked: Chat | Completion) -> list[str]:
        """The pictures of a request. Raises ApiError 400 where the model takes none."""
        urls = links(asked.messages) if isinstance(asked, Chat) else []
        if urls and not self.entry.sees:
            raise bad("messages: this model takes no pictures; accepted: text", "messages", "no_vision")
        return urls

    def heard(self, asked: Chat | Completion, files: Sequence[bytes]) -> list[Prompt]:
        """The prompts of a request; ``files``: its pictures'. Raises ApiError 400 as ``prompts`` and ``pictures``
        do."""
        loaded = self.entry.loaded
        if isinstance(asked, Chat):
            return [of_chat(loaded, asked.messages, decoded(files, self.limits), self.longest)]
        most = self.longest
        if asked.max_tokens == 0 and self.entry.context:  # a prompt that is only read may fill it
            most = min(self.limits.tokens, self.entry.context)
        return [of_text(loaded, one, most) if isinstance(one, str) else of_ids(loaded, one, most)
                for one in _prompts(asked)]  # fmt: skip

    def wish(self, asked: Drawn, prompt: Prompt, number: int) -> Wish:
        """Of answer ``number`` to ``prompt``: each of several has a seed of its own."""
        top = None
        if isinstance(asked, Completion):
            top = asked.logprobs
        elif isinstance(asked, Chat) and asked.logprobs:
            top = asked.top_logprobs or 0
        seed = None if asked.seed is None else (asked.seed + number) % 2**63
        words = self.entry.loaded.library.config.get_text_config().vocab_size
        bias = {int(token): value for token, value in (asked.logit_bias or {}).items()}
        if bias and max(bias) >= words:
            raise bad(f"logit_bias: got token {max(bias)}; accepted: 0 to {words - 1}", "logit_bias")
        return Wish(
            self._most(asked, prompt), 1.0 if asked.temperature is None else asked.temperature,
            1.0 if asked.top_p is None else asked.top_p, seed, asked.stops, asked.presence_penalty or 0.0,
            asked.frequency_penalty or 0.0, bias, top, isinstance(asked, Completion) and bool(asked.echo),
        )  # fmt: skip

    def _most(self, asked: Drawn, prompt: Prompt) -> int:
        chat, name, wanted = isinstance(asked, Chat), "max_tokens", asked.max_tokens
        if isinstance(asked, Chat) and asked.max_completion_tokens is not None:
            name, wanted = "max_completion_tokens", asked.max_completion_tokens
        room = (self.entry.context or prompt.length + self.limits.tokens) - prompt.length
        if wanted is None:
            return min(room, self.limits.tokens, self.limits.tokens if chat else WORDS)
        if wanted > self.limits.tokens or (chat and not wanted):
            raise bad(f"{name}: got {wanted}; accepted: {int(chat)} to {self.limits.tokens}", name)
        if wanted > room:
            raise too_long(f"the prompt has {prompt.length} tokens and {name} is {wanted}; accepted: at most "
                           f"{self.entry.context} together")  # fmt: skip
        return int(wanted)


def checked(asked: Chat | Completion, limits: Limits) -> None:
    """Raises ApiError 400 for what no member says by itself."""
    count = (asked.n or 1) * (1 if isinstance(asked, Chat) else len(_prompts(asked)))
    if not 1 <= count <= limits.prompts:
        raise bad(f"n: {count} answers; accepted: 1 to {limits.prompts}, prompts times n", "n")
    if isinstance(asked, Chat) and asked.top_logprobs is not None and not asked.logprobs:
        raise bad("top_logprobs: accepted with logprobs: true", "top_logprobs")
    if asked.stream_options is not None and not asked.stream:
        raise bad("stream_options: accepted with stream: true", "stream_options")


def _prompts(asked: Completion) -> list[Any]:
    given = asked.prompt
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return list(given)


class Ends:
    """Whether a piece is the last of all ``left`` answers."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, piece: Piece) -> bool:
        self.left -= piece.finish is not None
        return not self.left


class Talk:
    """One request on its way."""

    def __init__(self, speaker: Speaker, desk: Desk, asked: Chat | Completion, arrived: float) -> None:
        self.speaker, self.desk, self.asked = speaker, desk, asked
        self.tally = Tally(speaker.entry, (), arrived)
        self.deadline = Deadline.of(arrived, speaker.limits.seconds, asked.max_seconds)
        options = asked.stream_options
        kind: type[Teller] = OfChat if isinstance(asked, Chat) else OfCompletion
        logprobs = bool(asked.logprobs) if isinstance(asked, Chat) else asked.logprobs is not None
        self.teller = kind(self.tally, logprobs, bool(options and options.include_usage))

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """As they come. Raises ApiError, at any point."""
        desk, deadline = self.desk, self.deadline
        async with desk.place(deadline) as place:
            bring = await desk.brought(self.speaker.links(self.asked), self.speaker.fetch, deadline)
            answers = self.tally.answers = await desk.made(lambda: self._answers(bring()), deadline)
            come, read = Ends(len(answers)), Ends(len(answers))

            def job(put: Callable[[Any], None]) -> Job:
                return Job(self.speaker.entry.id, put, answers)

            async with aclosing(desk.events(job, place, deadline, come)) as events:
                async for piece in events:
                    self.tally.count(piece)
                    yield piece
                    if read(piece):
                        return

    def _answers(self, files: Sequence[bytes]) -> list[Answer]:
        prompts = self.tally.prompts = self.speaker.heard(self.asked, files)
        each = self.asked.n or 1
        return [Answer(each * at + number, prompt, self.speaker.wish(self.asked, prompt, number), self.speaker.speech)
                for at, prompt in enumerate(prompts) for number in range(each)]  # fmt: skip

    async def whole(self) -> bytes:
        """The answer as one document, made in a thread: with its log probabilities it may be long."""
        found: dict[int, Whole] = {}
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                found.setdefault(piece.index, Whole()).add(piece)
        return await asyncio.to_thread(lambda: json_of(self.teller.told([found[index] for index in sorted(found)])))

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events; an error that comes before the first piece is raised."""
        begun = set[int]()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                if piece.index not in begun:
                    begun.add(piece.index)
                    yield self.teller.begin(piece.index)
                if piece.text or piece.chances or piece.finish:
                    yield self.teller.chunk(piece)
        yield self.teller.end()
