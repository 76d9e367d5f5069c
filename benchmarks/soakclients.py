"""Clients of ``make soak``: each asks, misbehaves or leaves in its own way, again and again until the time is up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from soakbodies import asked, bombs, broken, picture
from soakwire import Answer, exchange, request

CHAT = "/v1/chat/completions"
BUSY, GOOD = 429, 200
REFUSED = frozenset({400, 404, 413, 415, 422})


@dataclass(frozen=True)
class Deed:
    """``does``: one request. ``right``: statuses that are right beside 429, 0 for a client that left. ``share``: how
    often, among all."""

    name: str
    does: Callable[[random.Random], Awaitable[Answer]]
    right: frozenset[int]
    share: float = 1.0
    timed: bool = False


@dataclass
class Seen:
    """Of all clients. ``counts``: by deed and status. ``wrong``: statuses that were not right, with the answer's
    beginning. ``lost``: answers that neither ended nor were left. ``first``: seconds to the first word."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    whole: int = 0

    def add(self, deed: Deed, answer: Answer) -> None:
        row = self.counts.setdefault(deed.name, {})
        left = 0 in deed.right
        said = "left" if left and not answer.ended else str(answer.status)
        row[said] = row.get(said, 0) + 1
        self.whole += answer.ended and answer.status == GOOD and deed.name.startswith("chat")
        if not left and (answer.status == 0 or not answer.ended):
            self.lost.append(f"{deed.name}: {answer.status}, not ended")
        if answer.status not in deed.right | {BUSY} or answer.error:
            self.wrong.append(f"{deed.name}: {answer.status} {answer.body[:200]!r}")
        if deed.timed and answer.status == GOOD and answer.ended and answer.first is not None:
            self.first.append(answer.first)


def deeds(port: int, model: str, limits: dict[str, Any], token: str) -> list[Deed]:
    """All that clients do, good and bad."""
    send = _Send(port, token)
    streams = {"stream": True, "stream_options": {"include_usage": True}}
    made = [
        Deed("chat", lambda d: send(asked(model, d)), frozenset({GOOD}), 4),
        Deed("chat, stream", lambda d: send(asked(model, d, **streams)), frozenset({GOOD}), 4, timed=True),
        Deed("chat, picture", lambda d: send(asked(model, d, picture("PNG", d))), frozenset({GOOD}), 6),
        Deed("chat, picture, stream", lambda d: send(asked(model, d, picture("JPEG", d), kind="jpeg", **streams)),
             frozenset({GOOD}), 6, timed=True),
        Deed("chat, slow reader", lambda d: send(asked(model, d, **streams), sip=0.05), frozenset({GOOD}), 2),
        Deed("leaves in the stream", lambda d: send(asked(model, d, max_tokens=256, **streams),
             leave=d.randrange(1, 900)), frozenset({0, GOOD}), 4),
        Deed("leaves at once", lambda d: send(asked(model, d, picture("PNG", d), max_tokens=256), leave=0),
             frozenset({0}), 2),
        Deed("leaves in the body", lambda d: send.half(asked(model, d), d), frozenset({0, *REFUSED})),
        Deed("oversized, told", lambda d: send.told(limits["body"] + 1), REFUSED),
        Deed("oversized, untold", lambda d: send.untold(limits["body"] + 2**20), REFUSED | {0}, 0.5),
        Deed("wrong token", lambda d: exchange(port, [request(CHAT, asked(model, d), "wrong")]), frozenset({401})),
        Deed("no token", lambda d: exchange(port, [request("/v1/models", None, None)]), frozenset({401})),
        Deed("status", lambda d: exchange(port, [request(d.choice(["/trimtab/status", "/metrics", "/v1/models"]),
             None, token)]), frozenset({GOOD})),
        Deed("no such page", lambda d: exchange(port, [request("/page/../../etc/passwd", None, token)]),
             frozenset({404})),
    ]  # fmt: skip
    made += [Deed(name, _of(send, body), REFUSED) for name, body in broken(model, limits["images"]).items()]
    # of many frames the first is looked at, which is as good as any
    made += [Deed(name, _of(send, _bomb(model, name, data)), REFUSED | ({GOOD} if "frames" in name else set()), 0.5)
             for name, data in bombs().items()]  # fmt: skip
    return made


def _of(send: _Send, body: Callable[[random.Random], bytes]) -> Callable[[random.Random], Awaitable[Answer]]:
    return lambda draw: send(body(draw))


def _bomb(model: str, name: str, data: bytes) -> Callable[[random.Random], bytes]:
    return lambda draw: asked(model, draw, data, kind=name.partition(" ")[0])


@dataclass(frozen=True)
class _Send:
    port: int
    token: str

    def __call__(self, body: bytes, **how: Any) -> Awaitable[Answer]:
        return exchange(self.port, [request(CHAT, body, self.token)], **how)

    def half(self, body: bytes, draw: random.Random) -> Awaitable[Answer]:
        """A part of what was announced, and then silence for a while."""
        whole = request(CHAT, body, self.token)
        cut = draw.randrange(1, len(whole))

        async def parts() -> AsyncIterator[bytes]:
            yield whole[:cut]
            await asyncio.sleep(draw.random())

        return exchange(self.port, parts(), leave=0)

    def told(self, size: int) -> Awaitable[Answer]:
        """A head that says how much will come, and some of it."""
        return exchange(self.port, [request(CHAT, b"{" + b" " * 1000, self.token, length=size)])

    def untold(self, size: int) -> Awaitable[Answer]:
        """Chunks, for as long as the server takes them, up to ``size`` bytes."""
        head, block = request(CHAT, b"", self.token, chunked=True), b" " * 2**16

        async def parts() -> AsyncIterator[bytes]:
            yield head
            for _ in range(size // len(block)):
                yield b"%x\r\n%s\r\n" % (len(block), block)
            yield b"0\r\n\r\n"

        return exchange(self.port, parts())


async def drive(all_of: Sequence[Deed], clients: int, seconds: float, seed: int = 0) -> Seen:
    """``clients`` at once until ``seconds`` are over; each that is told to come later does so."""
    seen, until = Seen(), monotonic() + seconds

    async def client(number: int) -> None:
        draw = random.Random(f"{seed}, {number}")
        # so that each deed is done by somebody soon, whatever the draws are
        first = all_of[number] if number < len(all_of) else None
        while monotonic() < until:
            deed, first = first or draw.choices(all_of, [one.share for one in all_of])[0], None
            answer = await deed.does(draw)
            seen.add(deed, answer)
            if answer.status == BUSY:
                await asyncio.sleep(min(answer.retry, 1.0) + draw.random())

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    return seen


async def alone(deed: Deed, count: int) -> list[float]:
    """Seconds to the first word of one client after the other."""
    seen, draw = Seen(), random.Random(0)
    for _ in range(count):
        seen.add(deed, await deed.does(draw))
    return seen.first
