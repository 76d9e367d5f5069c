"""What stands before the application: who may ask, how much may be sent, and headers on every answer.

Pure ASGI, so that a body is counted as it streams in, with or without a Content-Length, and streams go out untouched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from trimtab.serve.errors import ApiError
from trimtab.serve.reach import is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

OPEN = ("/healthz", "/page/")
"""What needs no token beside the page itself: it holds nothing of the user."""
ALL = 8
"""Bodies of the greatest size that may be here at once."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"), (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)  # fmt: skip
PAGE = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")  # fmt: skip


class Guard:
    """``token``: what every client must bring, None for none. ``loopback``: whether only this machine can ask; then
    only its own names are taken as Host, so that no web page gets here by a name that resolves to this machine.
    ``names``: those of a proxy, taken as Host too, and as a page's Origin where the proxy asks by another name.
    ``most``: bytes of a body; all requests together hold ``ALL`` times as many."""

    def __init__(self, app: App, token: str | None, loopback: bool, most: int, names: Sequence[str] = ()) -> None:
        self.app, self.loopback, self.most, self.held = app, loopback, most, 0
        self.names = frozenset(one.lower() for one in names)
        self.key = None if token is None else _digest(token.encode())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, body = False, Counted(self, receive)

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
            body.told(headers.get(b"content-length", b"0"))
            await self.app(scope, body, sent)
        except ApiError as error:
            if begun:
                raise
            await answered(error, sent)
        finally:
            self.held -= body.total

    def allowed(self, path: str, headers: MutableMapping[bytes, bytes]) -> None:
        """Raises ApiError for another host's name, another site's page, or a token that is missing or wrong."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self.loopback and not is_loopback(_name(host)) and _name(host) not in self.names:
            raise ApiError(403, "Host: accepted: localhost, 127.0.0.1, [::1], --allowed-host", code="host")
        origin = headers.get(b"origin")
        if origin is not None and not self._own(origin.decode("latin-1"), host):
            raise ApiError(403, "Origin: accepted: this server's own page", code="origin")
        if self.key is None or path == "/" or path.startswith(OPEN):
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(_digest(given.strip()), self.key):
            raise ApiError(401, "a bearer token is needed (Authorization: Bearer TOKEN)", code="invalid_api_key")

    def _own(self, origin: str, host: str) -> bool:
        kind, _, name = origin.partition("://")
        return kind in ("http", "https") and (name == host or _name(name) in self.names)


class Counted:
    """A request's body on its way in: ``total`` bytes so far."""

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self.guard, self.receive, self.total = guard, receive, 0

    def told(self, length: bytes) -> None:
        """Raises ApiError 413 for a Content-Length that is too much, or is none."""
        if not length.isdigit() or int(length[:20]) > self.guard.most:
            raise self._huge()

    async def __call__(self) -> Message:
        """The next part. Raises ApiError 413 for more than one request may have, 429 for more than all may."""
        message = await self.receive()
        size = len(message.get("body", b""))
        self.total += size
        self.guard.held += size
        if self.total > self.guard.most:
            raise self._huge()
        if self.guard.held > ALL * self.guard.most:
            raise ApiError(429, "the requests that are here hold too much", code="queue_full", retry=1)
        return message

    def _huge(self) -> ApiError:
        return ApiError(413, f"the body is too large; accepted: at most {self.guard.most} bytes", code="body_too_large")


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
