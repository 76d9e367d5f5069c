"""Pictures in requests: what is no picture, or a bomb, is refused; remote ones come from public addresses or not at
all."""

from __future__ import annotations

import base64
import io
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image
from serving import Served, data_url, entry, served, shown, talking

from trimtab.data.sample import Sample
from trimtab.load.loaded import Loaded
from trimtab.serve.errors import ApiError
from trimtab.serve.limits import Limits
from trimtab.serve.pictures import opened
from trimtab.serve.remote import Remote, public

RED = Image.new("RGB", (8, 6), "red")
WHOLE = base64.b64decode(data_url(RED).partition(",")[2])


def coded(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def bomb() -> bytes:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


BAD = {
    "no data URL": "picture.png", "a file": "file:///etc/passwd", "not base64": "data:image/png,abc",
    "no image type": "data:text/html;base64,AAAA", "letters that are none": "data:image/png;base64,A!A=",
    "padding is missing": "data:image/png;base64,AAAAA", "a newline": data_url(RED)[:40] + "\n" + data_url(RED)[40:],
    "other letters": "data:image/png;base64,ΑΑΑΑ", "empty": "data:image/png;base64,", "no picture": coded(b"hello"),
    "cut off": coded(WHOLE[:-30]), "a head alone": coded(WHOLE[:24]), "SVG": coded(b"<svg/>", "svg+xml"),
    "a bomb": coded(bomb()), "a thread": data_url(Image.new("L", (1, 5000))),
    "16 bits": data_url(Image.new("I;16", (4, 4))), "remote": "https://example.org/x.png", "": "",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_here_is_refused(seeing: Served, name: str) -> None:
    answer = seeing.client.post("/v1/chat/completions", json={"messages": shown(BAD[name])})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith("image 0: ")
    assert answer.json()["error"]["param"] == "image_url"


def test_pictures_are_decoded_as_they_are() -> None:
    for form in ("PNG", "WEBP", "BMP"):
        lossless = {"lossless": True} if form == "WEBP" else {}
        out = io.BytesIO()
        RED.save(out, form, **lossless)
        found = opened([coded(out.getvalue(), form.lower())], Limits())
        assert found[0].tobytes() == RED.tobytes()
    wide = Image.new("RGB", (100, 2))
    assert opened([data_url(wide)], Limits(image_pixels=200))[0].size == (100, 2)
    with pytest.raises(ApiError, match="accepted: up to 199"):
        opened([data_url(wide)], Limits(image_pixels=199))
    with pytest.raises(ApiError, match="at most 2"):
        opened([data_url(RED)] * 3, Limits(images=2))


def test_words_that_stand_for_pictures_are_refused(seeing: Served, asked: list[Sample]) -> None:
    picture = data_url(asked[0].open())  # type: ignore[misc]
    answer = seeing.client.post("/v1/chat/completions", json={"messages": shown(picture, "what is <image> here")})
    assert answer.status_code == 400
    answer = seeing.client.post("/v1/completions", json={"prompt": "<image> what"})
    assert answer.status_code == 400
    alone = seeing.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "an <image>"}],
                                                             "max_tokens": 2})  # fmt: skip
    assert alone.status_code in (200, 400)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "240.0.0.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1"],
)  # fmt: skip
def test_addresses_that_are_not_the_internets(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are(address: str) -> None:
    assert public(address)


class Handler(BaseHTTPRequestHandler):
    """A web server on this machine that plays one of the internet."""

    def do_GET(self) -> None:
        self.server.seen.append((self.headers["Host"], self.path))  # type: ignore[attr-defined]
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = {"/red.png": WHOLE, "/long": b"x" * 5000}.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


NAMES = {"good.example": ["93.184.216.34"], "inner.example": ["10.0.0.7"], "none.example": [],
         "both.example": ["93.184.216.34", "127.0.0.1"], "meta.example": ["169.254.169.254"]}  # fmt: skip


class Net:
    """Names as ``NAMES`` has them, and connections that all go to the web server above; both are noted."""

    def __init__(self, web: ThreadingHTTPServer) -> None:
        self.port = web.server_address[1]
        self.asked, self.reached = list[str](), list[str]()

    def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in NAMES and not host[0].isdigit():
            raise socket.gaierror("no such host")
        return NAMES.get(host, [host])

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        self.reached.append(address)
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)

    def remote(self, most: int = 1 << 20) -> Remote:
        return Remote(most, resolve=self.resolve, connect=self.connect)


def test_a_public_picture_is_fetched_from_the_address_that_was_checked(web: Any) -> None:
    net = Net(web)
    assert net.remote()("http://good.example/red.png") == WHOLE
    assert net.asked == ["good.example"], "a name is resolved once: it cannot say otherwise the next time"
    assert net.reached == ["93.184.216.34"]
    assert web.seen[-1] == ("good.example", "/red.png")
    assert opened(["http://good.example/to//red.png"], Limits(), net.remote())[0].tobytes() == RED.tobytes()


@pytest.mark.parametrize(
    "url",
    ["http://inner.example/red.png", "http://both.example/red.png", "http://none.example/", "http://unknown.example/",
     "http://127.0.0.1/red.png", "http://169.254.169.254/latest/meta-data", "http://2130706433/", "http://0x7f.1/",
     "http://good.example:8080/red.png", "http://user:pass@good.example/red.png", "ftp://good.example/red.png",
     "gopher://good.example/", "http:///red.png", "http://good.example\r\nX: y/", "http://[::1/", "http://good.example:x/",
     "http://good.example/gone", "http://good.example/ü"],
)  # fmt: skip
def test_other_addresses_are_never_asked(web: Any, url: str) -> None:
    net = Net(web)
    with pytest.raises(ApiError) as raised:
        net.remote()(url)
    assert raised.value.status == 400
    assert set(net.reached) <= ({"93.184.216.34"} if url.endswith("/gone") else set())


@pytest.mark.parametrize("inner", ["http://inner.example/red.png", "http://meta.example/", "http://127.0.0.1/red.png",
                                   "file:///etc/passwd", "//inner.example/x"])  # fmt: skip
def test_no_redirect_leads_inside(web: Any, inner: str) -> None:
    net = Net(web)
    with pytest.raises(ApiError, match="remote image"):
        net.remote()(f"http://good.example/to/{inner}")
    assert net.reached == ["93.184.216.34"]


def test_hops_bytes_and_seconds_are_bounded(web: Any) -> None:
    net = Net(web)
    with pytest.raises(ApiError, match="more than 3 redirects"):
        net.remote()("http://good.example/to//to//to//to//to//to//red.png")
    assert len(net.reached) == 4
    with pytest.raises(ApiError, match="more than 4999 bytes"):
        net.remote(4999)("http://good.example/long")
    assert net.remote(5000)("http://good.example/long") == b"x" * 5000
    with pytest.raises(ApiError, match="too long"):
        Remote(100, 0.0, net.resolve, net.connect)("http://good.example/red.png")


def test_a_server_that_may_fetches(web: Any, builtin: Loaded) -> None:
    net = Net(web)
    with served(entry(builtin), entry(talking(), "text"), fetch=net.remote()) as one:
        ask = {"max_tokens": 2, "temperature": 0}
        here = one.post("/v1/chat/completions", messages=shown(data_url(RED)), **ask)
        there = one.post("/v1/chat/completions", messages=shown("http://good.example/red.png"), **ask)
        assert there["choices"] == here["choices"]
        inside = one.client.post("/v1/chat/completions", json={"messages": shown("http://inner.example/red.png")})
        assert (inside.status_code, inside.json()["error"]["code"]) == (400, "remote_image")
