"""Remote pictures, where they are allowed: only from public addresses, at every hop, within bounds.

A name is resolved once for each hop, all of its addresses must be public, and the connection goes to the very address
that was checked, so that a name which resolves otherwise the next time gains nothing. No proxy, cookie or credential of
this machine is used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from trimtab.serve.errors import ApiError, bad

HOPS = 3
PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
MOVED = (301, 302, 303, 307, 308)

Resolve = Callable[[str, int], list[str]]
Connect = Callable[[str, int, float], socket.socket]


def resolved(host: str, port: int) -> list[str]:
    """Every address of a name, by the system."""
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connected(address: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((address, port), timeout=seconds)


def public(address: str) -> bool:
    """Whether it is an address of the open internet: none that is private, of this machine or link, shared, reserved or
    multicast, also where it stands inside an IPv6 one (mapped, 6to4, Teredo, NAT64)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if found in NAT64:
            inner.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        if any(one is not None and not public(str(one)) for one in inner):
            return False
        if found.ipv4_mapped is not None:
            return True
    return found.is_global and not found.is_multicast


@dataclass(frozen=True)
class Remote:
    """Gets a picture's bytes: at most ``most``, within ``seconds`` for all hops. ``resolve`` and ``connect`` are there
    to be replaced in tests."""

    most: int
    seconds: float = 10.0
    resolve: Resolve = resolved
    connect: Connect = connected

    def __call__(self, url: str) -> bytes:
        """Raises ApiError 400 for an address that is not public, too many hops, or an answer that is none."""
        end = time.monotonic() + self.seconds
        for _ in range(HOPS + 1):
            answer = self._asked(url, end)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise _no(f"more than {HOPS} redirects")

    def _asked(self, url: str, end: float) -> bytes | str:
        """The picture, or where it has moved to."""
        parts = _parts(url)
        assert parts.hostname is not None
        address, port = self._address(parts.hostname, PORTS[parts.scheme]), PORTS[parts.scheme]
        made = http.client.HTTPConnection(parts.hostname, port, timeout=_left(end))
        try:
            made.sock = self._socket(parts, address, port, end)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            made.request("GET", target, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
            with closing(made.getresponse()) as answer:
                if answer.status in MOVED and (where := answer.getheader("Location")):
                    return where
                if answer.status != 200:
                    raise _no(f"it answered with status {answer.status}")
                return self._body(answer, made, end)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _no("it could not be fetched") from error
        finally:
            made.close()

    def _address(self, host: str, port: int) -> str:
        try:
            found = self.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise _no("its host has no address") from error
        if not found or not all(map(public, found)):
            raise _no("its host is not on a public address")
        return found[0]

    def _socket(self, parts: SplitResult, address: str, port: int, end: float) -> socket.socket:
        plain = self.connect(address, port, _left(end))
        if parts.scheme == "http":
            return plain
        return ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)

    def _body(self, answer: http.client.HTTPResponse, made: http.client.HTTPConnection, end: float) -> bytes:
        parts: list[bytes] = []
        while sum(map(len, parts)) <= self.most:
            if made.sock is not None:
                made.sock.settimeout(_left(end))
            part = answer.read1(1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
        raise _no(f"more than {self.most} bytes")


def _parts(url: str) -> SplitResult:
    """Raises ApiError for anything but a plain web address on its scheme's own port."""
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


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise _no("it took too long")
    return left


def _no(why: str) -> ApiError:
    return bad(f"remote image: {why}", "image_url", "remote_image")
