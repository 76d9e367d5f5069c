"""The server of ``make soak`` in a process of its own, its memory second by second, and what it says of itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil

TOKEN = "soak-token-of-the-benchmark"
READY = 120.0


@dataclass
class Server:
    """One that runs. ``memory``: seconds since its first sample and resident bytes of all its processes."""

    process: subprocess.Popen[bytes]
    port: int
    memory: list[tuple[float, int]] = field(default_factory=list)

    def ask(self, path: str, body: Any = None, wait: float = 60.0) -> Any:
        """The answer as JSON. Raises HTTPError for another status than 200."""
        head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"http://127.0.0.1:{self.port}{path}", data, head), timeout=wait) as answer:
            return json.loads(answer.read())

    def resident(self) -> int:
        """Bytes, its children's too. Raises NoSuchProcess where it has ended."""
        one = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in (one, *one.children(recursive=True)))

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """As a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


def started(artifacts: Sequence[Path], log: Path, more: Sequence[str] = ()) -> Server:
    """``trimtab serve`` as it is, when it answers. Raises RuntimeError with the end of its log where it does not."""
    port = free_port()
    command = [sys.executable, "-m", "trimtab.cli", "serve", *map(str, artifacts), "--port", str(port), *more]
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"TRIMTAB_TOKEN": TOKEN})
    server, until = Server(process, port), monotonic() + READY
    while monotonic() < until and server.alive():
        try:
            server.ask("/healthz", wait=5)
            return server
        except HTTPError as error:
            if error.code != 503:  # it says that it is not ready
                raise
            sleep(0.2)
        except (URLError, ConnectionError):
            sleep(0.2)
    process.kill()
    raise RuntimeError(f"the server did not come up: {log.read_text(errors='replace')[-2000:]}")


@contextmanager
def running(artifacts: Sequence[Path], log: Path, more: Sequence[str] = ()) -> Iterator[Server]:
    """A server that is watched, and told to end as a service is told; its status is that of its process then."""
    server, done = started(artifacts, log, more), threading.Event()
    watch = threading.Thread(target=_watch, args=(server, done), daemon=True)
    watch.start()
    try:
        yield server
    finally:
        done.set()
        watch.join()
        if server.alive():
            server.process.terminate()
            try:
                server.process.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()


def _watch(server: Server, done: threading.Event) -> None:
    began = monotonic()
    while not done.wait(1.0):
        try:
            server.memory.append((monotonic() - began, server.resident()))
        except psutil.NoSuchProcess:  # a crash is told elsewhere
            return
