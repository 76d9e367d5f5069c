"""The server as a process: it listens, and on SIGTERM or SIGINT finishes what was begun, refuses what is new and ends.

uvicorn runs in a thread of its own, so that signals stay here: it would close its sockets at once, and new requests
would find nobody instead of a 503.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from trimtab.core.errors import BadInput
from trimtab.serve.app import House, made
from trimtab.serve.connection import Connection
from trimtab.serve.heap import settled

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises BadInput where that cannot be."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise BadInput(f"--host {host} --port {port}: {error.strerror or error}; next: another port") from error


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def running(house: House, listening: socket.socket) -> Iterator[threading.Thread]:
    """A house that answers on a socket, in threads of its own, until the end of the block."""
    config = uvicorn.Config(
        made(house), log_config=None, access_log=False, server_header=False, http=Connection, ws="none", lifespan="off",
        loop="asyncio", timeout_keep_alive=5, timeout_graceful_shutdown=2,
    )  # fmt: skip
    logging.getLogger("uvicorn.access").disabled = True  # its lines hold addresses and what stands behind a "?"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="trimtab-http", daemon=True)
    with house.scheduler:
        thread.start()
        while thread.is_alive() and not server.started:
            time.sleep(0.01)
        try:
            yield thread
        finally:
            server.should_exit = True
            thread.join()
            house.desk.close()
            listening.close()


def serve(house: House, listening: socket.socket, patience: float, ready: Callable[[], Any]) -> None:
    """Until a signal; then at most ``patience`` seconds more for what was begun, none with a second signal. In the main
    thread."""
    signals: list[int] = []

    def told(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    settled()
    before = {one: signal.signal(one, told) for one in SIGNALS}
    try:
        with running(house, listening) as thread:
            ready()
            while thread.is_alive() and not signals:
                time.sleep(0.05)
            house.desk.draining = True
            end = time.monotonic() + patience
            while thread.is_alive() and not house.desk.idle and time.monotonic() < end and len(signals) < 2:
                time.sleep(0.05)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
