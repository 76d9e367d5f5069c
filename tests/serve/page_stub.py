"""A server that follows the page's contract and does what a test tells it: streams, halts, refuses, breaks off."""

from __future__ import annotations

import json
import mimetypes
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT = """<!doctype html><html><head><title>Report</title>
<meta http-equiv="Content-Security-Policy" content="base-uri 'none'">
<style>h1 { color: rgb(1, 2, 3); }</style></head><body><h1>The run's report</h1><script>document.title = "ran"</script>
</body></html>"""


def described(name: str, kind: str, original: str | None = None, **others: Any) -> dict[str, Any]:
    """A row of /trimtab/models, as ``serve.pages`` tells it."""
    on = {"weights": "4 bits (gptq)", "tokens": "divprune keep 0.5", "cache": ""}
    off = {"weights": "bfloat16", "tokens": "", "cache": ""}
    base = {"id": name, "kind": kind, "original": original, "sees": True, "chat": True, "embeds": False,
            "policies": off if kind == "original" else on, "engine": "plan", "bytes": 7_830_000, "context": 512,
            "license": "apache-2.0", "report": None if kind == "original" else f"/trimtab/report/{name}"}  # fmt: skip
    return base | others


MODELS = [described("shapes-w4", "trimmed", "shapes"), described("shapes", "original"),
          described("words", "original", sees=False), described("vectors", "original", chat=False)]  # fmt: skip
LIMITS = {"images": 3, "image_pixels": 10_000, "body": 400_000, "tokens": 256, "seconds": 600}


@dataclass
class Answer:
    """What the next question gets: pieces of text, a halt before piece ``halt``, and how it ends."""

    pieces: tuple[str, ...] = ("It is ", "a circle.")
    halt: int | None = None  # waits there until the test says go
    again: int | None = None  # and there
    error: str = ""  # an error within the stream, in place of its end
    raw: str = ""  # an event within the stream, in place of its end
    cut: bool = False  # the connection goes away, in place of its end
    reason: str = "stop"


@dataclass
class Refuse:
    """A status in place of an answer."""

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None  # in place of OpenAI's form


class Stub(ThreadingHTTPServer):
    """``script`` has what the next questions get; ``asked`` what they were; ``left`` is set when a client went away."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer | Refuse] = []
        self.asked: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.token = ""
        self.report = REPORT
        self.seconds = 5.0  # since it was started
        self.models = MODELS
        self.limits = LIMITS
        self.go, self.left, self.halted = threading.Event(), threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        if self.path == "/" or self.path.startswith("/page/"):
            self.page(self.path.removeprefix("/page").strip("/") or "index.html")
        elif self.locked():
            self.refuse(Refuse(401, "a token is needed"))
        elif self.path == "/trimtab/models":
            self.json({"default": "shapes-w4", "models": self.server.models})
        elif self.path == "/trimtab/status":
            self.json({"queue": {"waiting": 2, "running": 1, "room": 6},
                       "seconds": self.server.seconds, "limits": self.server.limits,
                       "memory": {"resident": 1_230_000_000, "available": 14_000_000_000},
                       "requests": {"answered": 12, "refused": 0, "cancelled": 0, "failed": 0}})  # fmt: skip
        elif self.path.startswith("/trimtab/report/"):
            policy = ("sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; "
                      "script-src 'unsafe-inline'; frame-ancestors 'self'")  # fmt: skip
            self.send(200, "text/html", self.server.report.encode(), {"Content-Security-Policy": policy})
        else:
            self.refuse(Refuse(404, "no such path"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.locked():
            self.refuse(Refuse(401, "a token is needed"))
            return
        self.server.asked.append(body)
        answer = self.server.script.pop(0) if self.server.script else Answer()
        if isinstance(answer, Refuse):
            self.refuse(answer)
        else:
            self.stream(body["model"], answer)

    def locked(self) -> bool:
        return bool(self.server.token) and self.headers.get("Authorization") != f"Bearer {self.server.token}"

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # a browser that closes its tabs
            self.close_connection = True

    def page(self, name: str) -> None:
        content = (files("trimtab") / "serve" / "page" / name).read_bytes()
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff",
                   "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin"}  # fmt: skip
        self.send(200, kind, content, headers)

    def send(self, status: int, kind: str, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(status, "application/json", json.dumps(value).encode(), headers or {})

    def refuse(self, what: Refuse) -> None:
        if what.body is not None:
            self.send(what.status, "application/json", what.body.encode(), what.headers)
            return
        self.json({"error": {"message": what.message, "type": "x", "param": None, "code": None}},
                  what.status, what.headers)  # fmt: skip

    def event(self, value: Any) -> None:
        data = f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def stream(self, model: str, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at, piece in enumerate(answer.pieces):
            if at in (answer.halt, answer.again) and not self.wait():
                return
            self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        if len(answer.pieces) in (answer.halt, answer.again) and not self.wait():
            return
        if answer.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if answer.raw:
            self.event(answer.raw)
        elif answer.error:
            self.event({"error": {"message": answer.error, "type": "x", "param": None, "code": None}})
        else:
            self.finish_with(model, answer)
        self.wfile.write(b"0\r\n\r\n")

    def finish_with(self, model: str, answer: Answer) -> None:
        row = next(row for row in self.server.models if row["id"] == model)
        speed = 24.07 if row["kind"] == "original" else 41.3
        facts = {"policies": row["policies"], "engine": row["engine"], "seconds_to_first_token": 0.42,
                 "tokens_per_second": speed, "image_tokens": {"seen": 64, "kept": 32}}  # fmt: skip
        done = {"index": 0, "delta": {}, "finish_reason": answer.reason}
        self.event({"choices": [done], "trimtab": facts})
        usage = {"prompt_tokens": 9, "completion_tokens": len(answer.pieces), "total_tokens": 9 + len(answer.pieces)}
        self.event({"choices": [], "usage": usage, "trimtab": facts})
        self.event("[DONE]")

    def wait(self) -> bool:
        """Halted until the test says go; false when the client went away meanwhile."""
        self.server.halted.set()
        while not self.server.go.wait(0.01):
            readable, *_ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                self.server.left.set()
                self.close_connection = True
                return False
        self.server.go.clear()
        return True


@contextmanager
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.go.set()
            server.shutdown()
            thread.join()
