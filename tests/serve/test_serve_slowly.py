"""Remote pictures from servers that take their time: whatever they do, it ends. Each of them would in the end send a
picture, so that a reader without an end is told from one that has it by what comes out, not by a clock."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from trimtab.serve.errors import ApiError
from trimtab.serve.remote import Remote

PIECE = 0.05
"""Seconds between the bytes of a trickle, of which there are ``MANY``: above ``SECONDS`` together, below it alone."""
MANY = 40
SECONDS = 0.4
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"  # so http.client leaves the socket to the answer, and has none itself
END = b"\r\nContent-Length: 0\r\n\r\n"  # nothing to read, so that no look at the clock between parts helps
WAYS = {
    "status": (b"HTTP/1.1 200 ", b"O", b"\r\nConnection: close" + END), "head": (OK + b"X: ", b"a", END),
    "heads": (OK, b"X: a\r\n", END.lstrip()), "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", OK + END.lstrip()),
    "body": (OK + b"Content-Length: 43\r\n\r\n", b"a", b"abc"),
    "body until it closes": (OK + b"\r\n", b"a", b""),
    "body of a connection that stays": (b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n", b"a", b"abc"),
    "body of HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n", b"a", b""),
    "chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0", b"\r\n\r\n"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", b"0\r\n\r\n"),
    "trailer": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"X: a\r\n", b"\r\n"),
    "redirect": (b"HTTP/1.1 302 Found\r\nX: ", b"a", b"\r\nLocation: /x\r\n\r\n"),
}  # fmt: skip


@contextmanager
def server(first: bytes, again: bytes, last: bytes, pause: float = PIECE) -> Iterator[int]:
    """The port of a server that answers every connection with ``first``, a trickle of ``again``, and ``last``."""
    listening = socket.create_server(("127.0.0.1", 0))
    over, talks = threading.Event(), list[threading.Thread]()

    def talk(one: socket.socket) -> None:
        with one, suppress(OSError):  # the client may leave at any time
            one.settimeout(5)
            one.recv(4096)
            one.sendall(first)
            for _ in range(MANY):
                if over.wait(pause):
                    return
                one.sendall(again)
            one.sendall(last)

    def serve() -> None:
        with suppress(OSError):
            while True:
                talks.append(threading.Thread(target=talk, args=(listening.accept()[0],)))
                talks[-1].start()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        listening.close()
        for one in talks:
            one.join()


def remote(port: int, seconds: float) -> Remote:
    def connect(address: str, _: int, left: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=left)

    return Remote(1000, seconds, lambda *_: ["93.184.216.34"], connect)


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_trickles_is_left(way: str) -> None:
    with server(*WAYS[way]) as port, pytest.raises(ApiError, match="remote image: it took too long") as raised:
        remote(port, SECONDS)("http://good.example/x")
    assert raised.value.status == 400


@pytest.mark.parametrize("way", [way for way in WAYS if way != "redirect"])
def test_without_pauses_each_of_them_sends_a_picture(way: str) -> None:
    """So the test above fails without an end."""
    with server(*WAYS[way], pause=0.0) as port:
        assert remote(port, 60.0)("http://good.example/x").strip(b"a") in (b"", b"bc")


def test_a_handshake_that_trickles_is_left() -> None:
    """A record of TLS of 16384 bytes, one after the other."""
    with server(b"\x16\x03\x03\x40\x00", b"\x02", b"") as port, pytest.raises(ApiError, match="it took too long"):
        remote(port, SECONDS)("https://good.example/x")


def test_a_name_that_is_not_found_in_time_is_left() -> None:
    over = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        over.wait(2)
        return ["10.0.0.1"]

    with pytest.raises(ApiError, match="it took too long"):
        Remote(1000, 0.05, resolve)("http://slow.example/")
    over.set()


def test_no_more_names_than_slots_are_looked_up() -> None:
    over, ended, asked = threading.Event(), threading.Semaphore(0), list[str]()

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        over.wait(60)
        ended.release()
        return ["10.0.0.1"]

    fetch = Remote(1000, 0.05, resolve, names=threading.BoundedSemaphore(2))
    for host in "abc":
        with pytest.raises(ApiError, match="it took too long"):
            fetch(f"http://{host}.example/")
    assert asked == ["a.example", "b.example"]
    over.set()
    for _ in asked:
        assert ended.acquire(timeout=60)
    with pytest.raises(ApiError, match="not on a public address"):
        Remote(1000, 60.0, resolve, names=fetch.names)("http://d.example/")


def test_a_url_that_would_be_sent_for_long_is_refused() -> None:
    with pytest.raises(ApiError, match="8193 letters; accepted: at most 8192"):
        Remote(1000)("http://good.example/".ljust(8193, "x"))
