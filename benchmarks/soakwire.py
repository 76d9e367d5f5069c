"""HTTP/1.1 by hand, since a library's client does not misbehave: requests in any state, and answers read as slowly as
wished, or not to their end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

NARROW = 4096
"""Bytes that the system holds for a slow reader, so that the server feels it."""
PATIENCE = 120.0
"""Seconds after which an answer counts as lost."""


@dataclass
class Answer:
    """``status``: 0 where none came. ``first``: seconds until the first word of a stream, or the answer's head.
    ``ended``: the answer came to its end. ``error``: a stream said that it failed. ``body``: its first kilobytes."""

    status: int = 0
    first: float | None = None
    ended: bool = False
    error: bool = False
    retry: float = 0.0
    body: bytes = b""


def request(path: str, body: bytes | None, token: str | None, *, length: int | None = None, chunked: bool = False,
            method: str | None = None) -> bytes:  # fmt: skip
    """The bytes of a request; ``length``: what it claims instead of the truth; ``chunked``: its head alone."""
    method = method or ("GET" if body is None else "POST")
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    head += [f"Authorization: Bearer {token}"] if token else []
    if body is not None:
        size = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body) if length is None else length}"
        head += ["Content-Type: application/json", size]
    return "\r\n".join([*head, "", ""]).encode() + (b"" if body is None or chunked else body)


async def opened(port: int, narrow: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection; ``narrow``: with little room for what is not read yet."""
    plug = socket.socket()
    if narrow:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=plug, limit=NARROW if narrow else 2**16)


async def exchange(
    port: int, parts: Sequence[bytes] | AsyncIterator[bytes], *, sip: float = 0.0, leave: int | None = None,
    wait: float = PATIENCE,
) -> Answer:  # fmt: skip
    """Send ``parts``, read the answer: all at once, a few bytes each ``sip`` seconds, or until ``leave`` bytes came
    (0: not even the head), then hang up."""
    found = Answer()
    try:
        reader, writer = await opened(port, narrow=sip > 0)
    except ConnectionError:  # nobody is there: the answer is lost
        await asyncio.sleep(0.2)
        return found
    try:
        async with asyncio.timeout(wait):
            async with asyncio.TaskGroup() as group:  # who is told early that it is too much hears it
                sending = group.create_task(_send(writer, parts))
                if leave != 0:
                    await _read(reader, found, sip, leave)
                    sending.cancel()
    except* (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        pass  # what came until then is in ``found``, and that it did not end
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return found


async def _send(writer: asyncio.StreamWriter, parts: Sequence[bytes] | AsyncIterator[bytes]) -> None:
    """As far as the server takes it: one that has heard enough answers and stops reading."""
    try:
        if isinstance(parts, Sequence):
            for part in parts:
                writer.write(part)
                await writer.drain()
        else:
            async for part in parts:
                writer.write(part)
                await writer.drain()
    except ConnectionError:
        return


async def _read(reader: asyncio.StreamReader, found: Answer, sip: float, leave: int | None) -> None:
    began = monotonic()
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    found.status, found.first = int(lines[0].split()[1]), monotonic() - began
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    found.retry = float(fields.get("retry-after", "0") or 0)
    streams = fields.get("content-type", "").startswith("text/event-stream")
    seen, tail, spoke = 0, b"", False
    while piece := await reader.read(32 if sip else 2**16):
        seen += len(piece)
        found.body += piece[: 4096 - len(found.body)]
        tail = (tail + piece)[-4096:]
        found.error = found.error or (streams and b'data: {"error"' in tail)
        if streams and not spoke and (spoke := _speaks(tail)):
            found.first = monotonic() - began
        if leave is not None and seen >= leave:
            return
        if sip:
            await asyncio.sleep(sip)
    chunked = fields.get("transfer-encoding") == "chunked"
    whole = tail.endswith(b"0\r\n\r\n") if chunked else seen == int(fields.get("content-length", seen))
    found.ended = whole and (not streams or b"data: [DONE]" in tail or found.error)


def _speaks(data: bytes) -> bool:
    """Whether a chunk with words has come: the first one has a role and no word."""
    lines = (line.replace(b'": ', b'":') for line in data.split(b"\n"))
    return any(b'"content":"' in line and b'"content":""' not in line for line in lines)
