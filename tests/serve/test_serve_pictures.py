"""Pictures in requests: what is no picture, or a bomb, is refused; remote ones come from public addresses or not at
all."""

from __future__ import annotations

import base64
import io
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image
from serving import Served, data_url, entry, served, shown, talking

from trimtab.data.sample import Sample
from trimtab.load.loaded import Loaded
from trimtab.serve.addresses import public
from trimtab.serve.errors import ApiError
from trimtab.serve.limits import Limits
from trimtab.serve.pictures import Fetch, brought, decoded
from trimtab.serve.remote import Remote

RED = Image.new("RGB", (8, 6), "red")
WHOLE = base64.b64decode(data_url(RED).partition(",")[2])


def coded(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def opened(urls: Sequence[str], limits: Limits, fetch: Fetch | None = None) -> list[Image.Image]:
    return decoded(brought(urls, limits, fetch), limits)


def bomb() -> bytes:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


def saved(form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    RED.save(out, form, **options)
    return out.getvalue()


BAD = {
    "no data URL": "picture.png", "a file": "file:///etc/passwd", "not base64": "data:image/png,abc",
    "no image type": "data:text/html;base64,AAAA", "letters that are none": "data:image/png;base64,A!A=",
    "padding is missing": "data:image/png;base64,AAAAA", "a newline in its head": data_url(RED).replace(";", ";\n"),
    "other letters": "data:image/png;base64,ΑΑΑΑ", "empty": "data:image/png;base64,", "no picture": coded(b"hello"),
    "cut off": coded(WHOLE[:-30]), "a head alone": coded(WHOLE[:24]), "SVG": coded(b"<svg/>", "svg+xml"),
    "a bomb": coded(bomb()), "a thread": data_url(Image.new("L", (1, 5000))),
    "TIFF": coded(saved("TIFF"), "tiff"), "PPM": coded(saved("PPM"), "png"),
    "16 bits": data_url(Image.new("I;16", (4, 4))), "remote": "https://example.org/x.png", "": "",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_here_is_refused(seeing: Served, name: str) -> None:
    answer = seeing.client.post("/v1/chat/completions", json={"messages": shown(BAD[name])})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith("image 0: ")
    assert answer.json()["error"]["param"] == "image_url"


def test_pictures_are_decoded_as_they_are() -> None:
    for form in ("PNG", "WEBP", "BMP", "GIF"):
        data = saved(form, **({"lossless": True} if form == "WEBP" else {}))
        found = opened([coded(data, form.lower())], Limits())
        assert found[0].tobytes() == RED.tobytes()
    wide = Image.new("RGB", (100, 2))
    assert opened([data_url(wide)], Limits(image_pixels=200))[0].size == (100, 2)
    with pytest.raises(ApiError, match="accepted: up to 199"):
        opened([data_url(wide)], Limits(image_pixels=199))
    with pytest.raises(ApiError, match="at most 2"):
        opened([data_url(RED)] * 3, Limits(images=2))


def test_other_formats_are_named() -> None:
    for form in ("TIFF", "PPM"):
        with pytest.raises(ApiError, match=r"accepted: PNG, JPEG, WEBP, GIF, BMP$"):
            opened([coded(saved(form))], Limits())


@pytest.mark.parametrize(
    "url",
    [data_url(RED).replace("image/png", "image/PNG"), data_url(RED).replace("data:", "DATA:"),
     data_url(RED).replace(";base64", ";charset=utf-8;Base64"), data_url(RED).replace("image/", "Image/"),
     "data:image/png;base64," + base64.encodebytes(WHOLE).decode(),
     "data:image/png;base64," + base64.encodebytes(WHOLE).decode().replace("\n", "\r\n\t "),
     data_url(RED).replace(";", ';name="a.png";', 1)],
    ids=["type", "scheme", "parameter", "image", "lines", "space", "name"],
)  # fmt: skip
def test_data_urls_as_clients_write_them(url: str) -> None:
    assert url != data_url(RED)
    assert opened([url], Limits())[0].tobytes() == RED.tobytes()


def test_files_together_are_no_more_than_a_request_may_be() -> None:
    given = iter([WHOLE, WHOLE, WHOLE])
    limits = Limits(body=2 * len(WHOLE))
    assert brought(["http://a/"] * 2, limits, lambda _: WHOLE) == [WHOLE, WHOLE]
    with pytest.raises(ApiError, match=f"image 2: with it more than {2 * len(WHOLE)} bytes"):
        brought(["http://a/"] * 3 + ["http://never/"], limits, lambda _: next(given))


def test_words_that_stand_for_pictures_are_refused(seeing: Served, asked: list[Sample]) -> None:
    picture = data_url(asked[0].open())  # type: ignore[misc]
    answer = seeing.client.post("/v1/chat/completions", json={"messages": shown(picture, "what is <image> here")})
    assert answer.status_code == 400
    answer = seeing.client.post("/v1/completions", json={"prompt": "<image> what"})
    assert answer.status_code == 400
    alone = seeing.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "an <image>"}],
                                                             "max_tokens": 2})  # fmt: skip
    assert alone.status_code in (200, 400)


INNER = [
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.1.2.3", "10.255.255.255", "100.64.0.0", "100.64.0.1",
    "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.0",
    "169.254.169.254", "169.254.255.255", "172.16.0.1", "172.31.255.255", "192.0.0.0", "192.0.0.9", "192.0.0.10",
    "192.0.0.170", "192.0.0.192", "192.0.0.255", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1",
    "192.168.0.0", "192.168.1.1", "192.168.255.255", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
    "203.0.113.1", "224.0.0.0", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1",
    "::7f00:1", "::808:808", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:168.63.129.16", "::ffff:0:7f00:1",
    "::ffff:0:808:808", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
    "64:ff9b:1::808:808", "64:ff9b:0:1::808:808", "100::1", "100:0:0:1::1", "1fff:ffff::1", "2001::1",
    "2001:0:1:1::", "2001:1::1", "2001:2::1", "2001:3::1", "2001:4:112::1", "2001:10::1", "2001:20::1",
    "2001:30::1", "2001:1ff:ffff::1", "2001:db8::1", "2001:db8::5efe:10.0.0.1", "2002:7f00:1::", "2002:808:808::",
    "2620:4f:8000::1", "3fff::1", "3fff:fff:ffff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "feff::1", "ff02::1", "ff0e::1", "", "localhost", "1.2.3", "2130706433",
    "8.8.8.8/32", "008.8.8.8",
]  # fmt: skip
OUTER = [
    "1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0",
    "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0",
    "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.101.0", "203.0.112.255",
    "203.0.114.0", "223.255.255.255", "::ffff:8.8.8.8", "64:ff9b::808:808", "2000::1", "2001:200::1",
    "2001:4860:4860::8888", "2001:db7::1", "2001:db9::1", "2003::1", "2606:4700:4700::1111", "2620:4f:8001::1",
    "2a00:1450:4001::1", "3ffe::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INNER)
def test_addresses_that_are_not_the_internets(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", OUTER)
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
                                   "file:///etc/passwd", "//inner.example/x", "http://[",
                                   "http://[x]/", "http://good.example:port/", "//["])  # fmt: skip
def test_no_redirect_leads_inside(web: Any, inner: str) -> None:
    net = Net(web)
    with pytest.raises(ApiError, match="remote image") as raised:
        net.remote()(f"http://good.example/to/{inner}")
    assert raised.value.status == 400
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
