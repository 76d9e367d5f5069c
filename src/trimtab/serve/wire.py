"""One hard end over many calls. A socket's timeout holds for a single call, so a server that sends a byte now and then
could hold a reader for ever: here every call has only the time that is left."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def left(end: float) -> float:
    """Seconds until ``end`` of the monotonic clock. Raises TimeoutError where none are."""
    found = end - time.monotonic()
    if found <= 0:
        raise TimeoutError
    return found


class Wire:
    """What http.client needs of a socket; each call raises TimeoutError at ``end``. The socket is its owner's to close:
    http.client closes its own while the answer is still to be read."""

    def __init__(self, inner: socket.socket, end: float) -> None:
        self.inner, self.end = inner, end

    def sendall(self, data: bytes) -> None:
        self.inner.settimeout(left(self.end))
        self.inner.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reading(self.inner, self.end))

    def close(self) -> None:
        """Nothing."""


class _Reading(io.RawIOBase):
    def __init__(self, inner: socket.socket, end: float) -> None:
        self.inner, self.end = inner, end

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        self.inner.settimeout(left(self.end))
        return self.inner.recv_into(into)


def within(end: float, slots: threading.BoundedSemaphore, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises, for calls that take no timeout. Raises TimeoutError at ``end``; the call then
    ends in a thread of its own and keeps its slot until it has, so there are never more such threads than slots."""
    if not slots.acquire(timeout=left(end)):
        raise TimeoutError
    found: Future[T] = Future()

    def made() -> None:
        try:
            found.set_result(call())
        except Exception as error:  # raised again where it is waited for
            found.set_exception(error)
        finally:
            slots.release()

    try:
        threading.Thread(target=made, daemon=True).start()
    except RuntimeError:  # no thread is left
        slots.release()
        raise
    return found.result(left(end))
