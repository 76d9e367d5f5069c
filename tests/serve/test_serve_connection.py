"""Connections at whose other end is no client: they end, and nobody waits for them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import serving
from serving import Served, entry, served, talking, until

from trimtab.serve.connection import Connection
from trimtab.serve.limits import Limits
from trimtab.serve.run import bound

LONG = {"prompt": "w5", "n": 4, "max_tokens": 40, "stream": True, "logprobs": 20, "temperature": 0}
"""Its answer is larger than what sockets hold."""


@contextmanager
def plain(one: Served) -> Iterator[socket.socket]:
    """A connection that takes little at a time."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(60)
        made.connect(("127.0.0.1", int(one.url.rpartition(":")[2])))
        yield made


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the server's side hold much; what it accepts takes that over."""

    def small(host: str, port: int) -> socket.socket:
        made = bound(host, port)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return made

    monkeypatch.setattr(serving, "bound", small)


def asks(connection: socket.socket, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def answers(one: Served) -> bool:
    return one.post("/v1/completions", prompt="w5", max_tokens=2)["usage"]["completion_tokens"] == 2


def test_readers_that_stand_still_keep_no_place() -> None:
    """What is said is said, whether it is read or not; who goes without reading has not been answered."""
    with served(entry(talking()), limits=Limits(rows=1)) as one, ExitStack() as stack:
        for number in range(3):  # as many as places
            asks(stack.enter_context(plain(one)), LONG)
            until(lambda number=number: one.house.desk.open == number + 1)
        assert answers(one)
        assert one.house.desk.inside == 0
        assert not one.house.desk.idle, "they may still read"
        stack.close()
        until(lambda: one.house.desk.idle)
        assert one.house.meters.counts == {"answered": 1, "refused": 0, "cancelled": 3, "failed": 0}


def test_a_reader_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "STALL", 0.2)
    with served(entry(talking())) as one, plain(one) as reader:
        asks(reader, LONG)
        until(lambda: one.house.meters.counts["cancelled"] == 1)
        assert one.house.desk.idle


@pytest.mark.parametrize("trickle", [b"", b"x"])
def test_a_head_that_is_never_whole_is_given_up(monkeypatch: pytest.MonkeyPatch, trickle: bytes) -> None:
    monkeypatch.setattr(Connection, "HEAD", 0.3)
    with served(entry(talking())) as one, plain(one) as first:
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        first.settimeout(0.05)
        closed, end = False, time.monotonic() + 60
        while not closed:
            assert time.monotonic() < end, "it is held for ever"
            try:
                first.sendall(trickle)
                closed = ended(first)
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
        for _ in range(4):  # one that asks and goes on asking is none of these
            assert one.client.get("/healthz").status_code == 200
            time.sleep(0.1)


def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "MOST", 3)
    with served(entry(talking())) as one:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(plain(one)).sendall(b"GET / HTT")
            fourth = stack.enter_context(plain(one))
            assert ended(fourth)
        until(lambda: _lets_in(one))
        assert answers(one)


def _lets_in(one: Served) -> bool:
    with plain(one) as connection:
        try:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
        except ConnectionError:
            return False


def test_a_word_does_not_wait_until_the_client_has_said_that_it_has_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, at_once = Connection.connection_made, list[int]()

    def seen(self: Connection, transport: Any) -> None:
        made(self, transport)
        at_once.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(Connection, "connection_made", seen)
    with served(entry(talking())) as one:
        assert answers(one)
    assert at_once
    assert all(at_once)
