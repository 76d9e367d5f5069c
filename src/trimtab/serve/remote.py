"""Remote pictures, where they are allowed: only from public addresses, at every hop, within bounds.

A name is resolved once for each hop, all of its addresses must be public, and the connection goes to the very address
that was checked, so that a name which resolves otherwise the next time gains nothing. No proxy, cookie or credential of
this machine is used.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from trimtab.serve.addresses import public
from trimtab.serve.errors import ApiError, bad
from trimtab.serve.wire import Wire, left, within

HOPS = 3
PORTS = {"http": 80, "https": 443}
MOVED = (301, 302, 303, 307, 308)
LETTERS = 8192
"""Of a URL: so that a request is sent at once, whoever reads it and how slowly."""
NAMES = 8
"""That are looked up at a time, those included whose request has ended: the system's resolver cannot be stopped."""

Resolve = Callable[[str, int], list[str]]
Connect = Callable[[str, int, float], socket.socket]


def resolved(host: str, port: int) -> list[str]:
    """Every address of a name, by the system."""
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connected(address: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((address, port), timeout=seconds)


@dataclass(frozen=True)
class Remote:
    """Gets a picture's bytes: at most ``most``, within ``seconds`` for all of it (names, connections, handshakes, heads
    and bodies of all hops). ``resolve`` and ``connect`` are there to be replaced in tests."""

    most: int
    seconds: float = 10.0
    resolve: Resolve = resolved
    connect: Connect = connected
    names: threading.BoundedSemaphore = field(default_factory=partial(threading.BoundedSemaphore, NAMES))

    def __call__(self, url: str) -> bytes:
        """Raises ApiError 400 for an address that is not public, too many hops, an answer that is none, or one that
        takes longer."""
        end = time.monotonic() + self.seconds
        for _ in range(HOPS + 1):
            try:
                answer = self._asked(_parts(url), end)
            except TimeoutError as error:
                raise _no("it took too long") from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _no("it could not be fetched") from error
            if isinstance(answer, bytes):
                return answer
            url = _moved(url, answer)
        raise _no(f"more than {HOPS} redirects")

    def _asked(self, parts: SplitResult, end: float) -> bytes | str:
        """The picture, or where it has moved to."""
        assert parts.hostname is not None
        port = PORTS[parts.scheme]
        address = self._address(parts.hostname, port, end)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with closing(self._socket(parts, address, port, end)) as plain:
            made: Any = http.client.HTTPConnection(parts.hostname, port)
            made.sock = Wire(plain, end)
            made.request("GET", target, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
            with closing(made.getresponse()) as answer:
                if answer.status in MOVED and (where := answer.getheader("Location")):
                    return str(where)
                if answer.status != 200:
                    raise _no(f"it answered with status {answer.status}")
                return self._body(answer, end)

    def _address(self, host: str, port: int, end: float) -> str:
        try:
            found = within(end, self.names, partial(self.resolve, host, port))
        except (socket.gaierror, UnicodeError) as error:
            raise _no("its host has no address") from error
        if not found or not all(map(public, found)):
            raise _no("its host is not on a public address")
        return found[0]

    def _socket(self, parts: SplitResult, address: str, port: int, end: float) -> socket.socket:
        context = ssl.create_default_context() if parts.scheme == "https" else None
        plain = self.connect(address, port, left(end))
        if context is None:
            return plain
        with closing(plain):  # what becomes a TLS socket is no longer this one's to close
            plain.settimeout(left(end))  # holds for the whole handshake: OpenSSL's steps share it
            return context.wrap_socket(plain, server_hostname=parts.hostname)

    def _body(self, answer: http.client.HTTPResponse, end: float) -> bytes:
        found = bytearray()
        while part := answer.read1(1 << 16):
            found += part
            if len(found) > self.most:
                raise _no(f"more than {self.most} bytes")
            left(end)  # small chunks that came in one piece take time too
        return bytes(found)


def _parts(url: str) -> SplitResult:
    """Raises ApiError for anything but a plain web address on its scheme's own port."""
    if len(url) > LETTERS:
        raise _no(f"its URL has {len(url)} letters; accepted: at most {LETTERS}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _no("its URL cannot be read") from error
    printable = url.isascii() and url.isprintable() and " " not in url
    if not printable or parts.scheme not in PORTS or not parts.hostname or parts.username or parts.password:
        raise _no("accepted: https://HOST/PATH or http://HOST/PATH")
    if port not in (None, PORTS[parts.scheme]):
        raise _no(f"accepted: port {PORTS[parts.scheme]}")
    return parts


def _moved(url: str, where: str) -> str:
    try:
        return urljoin(url, where)
    except ValueError as error:
        raise _no("it is moved to a URL that cannot be read") from error


def _no(why: str) -> ApiError:
    return bad(f"remote image: {why}", "image_url", "remote_image")
