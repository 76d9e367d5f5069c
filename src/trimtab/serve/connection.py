"""A connection that ends where whoever is at the other end is no client.

uvicorn waits for ever for the rest of a request's head, and for a reader that reads nothing; a few hundred such
connections, which need no token, and nobody else gets in.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """At most ``MOST`` at once; a head is whole ``HEAD`` seconds after it began, and of an answer that is sent faster
    than it is read something is read every ``STALL`` seconds."""

    MOST: ClassVar[int] = 512
    HEAD: ClassVar[float] = 15.0
    STALL: ClassVar[float] = 60.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.MOST:
            return transport.abort()
        # asyncio does so itself only where a socket was made with its protocol's number, and listening ones are not:
        # a word would wait for the client to say that it has the one before, 40 ms
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in ("head", "reader"):
            self._off(name)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._on("reader", self.STALL)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._off("reader")

    def _watch_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._off("head")
        elif not self.transport.is_closing():
            self._on("head", self.HEAD)

    def _on(self, name: str, seconds: float) -> None:
        """What trickles in begins nothing anew."""
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, self.transport.abort)

    def _off(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
