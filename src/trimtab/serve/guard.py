"""What stands before the application: who may ask, how much may be sent, and headers on every answer.

Pure ASGI, so that a body is counted as it streams in, with or without a Content-Length, and streams go out untouched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from trimtab.serve.errors import ApiError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOCAL = ("localhost", "127.0.0.1", "::1")
OPEN = ("/healthz", "/page/")
"""What needs no token beside the page itself: it holds nothing of the user."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"), (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)  # fmt: skip
PAGE = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")  # fmt: skip

HELD = 8
"""Bodies of the largest size that are held at once: bodies come before the queue, and clients are many."""


@dataclass
class Taken:
    """Bytes of a request's body that are held."""

    bytes: int = 0


class Guard:
    """``token``: what every client must bring, None for none. ``loopback``: whether only this machine can ask; then
    only its own names are taken as Host, so that no web page gets here by a name that resolves to this machine.
    ``most``: bytes of a body."""

    def __init__(self, app: App, token: str | None, loopback: bool, most: int) -> None:
        self.app, self.loopback, self.most = app, loopback, most
        self.key = None if token is None else _digest(token.encode())
        self.held = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, taken = False, Taken()

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                there = {name for name, _ in message.get("headers", ())}
                more = [*HEADERS, (b"content-security-policy", PAGE.encode())]
                message["headers"] = [*message.get("headers", ()), *(row for row in more if row[0] not in there)]
            await send(message)

        try:
            headers = dict(scope["headers"])
            self.allowed(scope["path"], headers)
            await self.app(scope, self._counted(headers, receive, taken), sent)
        except ApiError as error:
            if begun:
                raise
            await answered(error, sent)
        finally:
            self.held -= taken.bytes

    def allowed(self, path: str, headers: MutableMapping[bytes, bytes]) -> None:
        """Raises ApiError for another host's name, another site's page, or a token that is missing or wrong."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self.loopback and _name(host) not in LOCAL:
            raise ApiError(403, "Host: accepted: localhost, 127.0.0.1, [::1]", code="host")
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host:
            raise ApiError(403, "Origin: accepted: this server's own page", code="origin")
        if self.key is None or path == "/" or path.startswith(OPEN):
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(_digest(given.strip()), self.key):
            raise ApiError(401, "a bearer token is needed (Authorization: Bearer TOKEN)", code="invalid_api_key")

    def _counted(self, headers: MutableMapping[bytes, bytes], receive: Receive, taken: Taken) -> Receive:
        told = headers.get(b"content-length", b"0")
        if not told.isdigit() or int(told[:20]) > self.most:
            raise self._huge()
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.most:
                raise self._huge()
            self.held += total - taken.bytes
            taken.bytes = total
            if self.held > HELD * self.most:
                raise ApiError(429, "bodies of other requests fill the room that is for them", code="bodies", retry=1)
            return message

        return counted

    def _huge(self) -> ApiError:
        return ApiError(413, f"the body is too large; accepted: at most {self.most} bytes", code="body_too_large")


async def answered(error: ApiError, send: Send) -> None:
    """``error`` as the whole answer."""
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))} | error.headers
    if error.status == 413:
        headers["connection"] = "close"  # what is still on its way is not read
    rows = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": rows})
    await send({"type": "http.response.body", "body": body})


def _digest(token: bytes) -> bytes:
    """Of equal length for all, so that a comparison says nothing of the token's."""
    return hashlib.sha256(token).digest()


def _name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
