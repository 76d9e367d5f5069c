"""Who may ask, how much may be sent, what stands in headers and logs, and every bad request: never a fault of ours."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from serving import Served, entry, served, talking

from trimtab.core.errors import BadInput
from trimtab.serve.limits import Limits
from trimtab.serve.reach import guarded, is_loopback

TOKEN = "a-token-of-many-letters"


@pytest.fixture(scope="module")
def closed() -> Iterator[Served]:
    with served(entry(talking()), token=TOKEN, loopback=False) as one:
        yield one


@pytest.mark.parametrize(
    "path", ["/v1/models", "/trimtab/models", "/trimtab/status", "/metrics", "/trimtab/report/tiny", "/v1/nothing"]
)
def test_without_the_token_nothing_is_told(closed: Served, path: str) -> None:
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"},
                  {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer"}):  # fmt: skip
        answer = httpx2.get(closed.url + path, headers=given)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert httpx2.get(closed.url + path, headers={"authorization": f"bearer  {TOKEN}"}).status_code in (200, 404)


def test_the_page_and_health_need_none(closed: Served) -> None:
    for path, status in (("/", 200), ("/healthz", 200), ("/page/nothing.js", 404)):
        assert httpx2.get(closed.url + path).status_code == status
    assert closed.openai.models.list().data[0].id == "tiny"
    answer = httpx2.post(f"{closed.url}/v1/completions", json={"prompt": "w5"})
    assert answer.status_code == 401


def test_only_loopback_is_open_without_a_token() -> None:
    assert [is_loopback(one) for one in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.2", "example.org", "localhost.example.org")))
    guarded("127.0.0.1", None)
    guarded("0.0.0.0", TOKEN)
    for host, token in (
        ("0.0.0.0", None),
        ("::", None),
        ("myhost", None),
        ("127.0.0.1", "short"),
        ("0.0.0.0", "a b" * 9),
    ):
        with pytest.raises(BadInput, match="token"):
            guarded(host, token)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::2]:80"])
def test_on_loopback_other_names_are_refused(tiny_server: Served, host: str) -> None:
    answer = tiny_server.client.get("/v1/models", headers={"Host": host})
    assert answer.status_code == 403
    assert "example" not in answer.text
    for own in ("localhost:1", "[::1]:8000", "127.0.0.1"):
        assert tiny_server.client.get("/v1/models", headers={"Host": own}).status_code == 200


def test_a_proxys_name_is_taken_where_it_was_said_and_needs_a_token() -> None:
    with pytest.raises(BadInput, match=r"--allowed-host shown\.example.*token"):
        guarded("127.0.0.1", None, ["shown.example"])
    key = {"Authorization": f"Bearer {TOKEN}"}
    with served(entry(talking()), token=TOKEN, names=("Shown.example",)) as one:

        def status(**more: str) -> int:
            return httpx2.get(f"{one.url}/v1/models", headers=key | more).status_code

        assert status(Host="shown.example", Origin="https://shown.example") == 200
        assert status(Origin="https://shown.example:8443") == 200  # the proxy asks by the address
        assert status(Host="other.example") == status(Origin="https://other.example") == 403
        assert status(Origin="ftp://shown.example") == status(Origin="shown.example") == 403
        assert httpx2.get(f"{one.url}/v1/models", headers={"Host": "shown.example"}).status_code == 401


def test_pages_of_other_sites_are_refused(tiny_server: Served) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://[", ""):
        assert tiny_server.client.get("/v1/models", headers={"Origin": origin}).status_code == 403
    assert tiny_server.client.get("/v1/models", headers={"Origin": tiny_server.url}).status_code == 200
    form = tiny_server.client.post(
        "/v1/completions", content=b'{"prompt": "w5"}', headers={"Content-Type": "text/plain"}
    )
    assert form.status_code == 415
    assert "access-control-allow-origin" not in form.headers


def test_headers_of_the_page(tiny_server: Served) -> None:
    answer = tiny_server.client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' blob: data:",
        "connect-src": "'self'", "frame-src": "'self'", "base-uri": "'none'", "form-action": "'none'",
        "frame-ancestors": "'none'",
    }  # fmt: skip
    for name, value in (("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"),
                        ("cross-origin-opener-policy", "same-origin")):  # fmt: skip
        assert answer.headers[name] == value
    for path in ("/page/../app.py", "/page/%2e%2e%2fapp.py", "/page/__init__.py", "/docs", "/redoc"):
        assert tiny_server.client.get(path).status_code == 404


def test_a_report_stands_in_a_frame_of_the_page_alone(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<!doctype html><title>a report</title>", encoding="utf-8")
    made = replace(entry(talking(), "small", "trimmed"), report=tmp_path / "report.html")
    with served(made, entry(talking(), "other")) as one:
        answer = one.client.get("/trimtab/report/small")
        assert "report" in answer.text
        policy = [part.strip() for part in answer.headers["content-security-policy"].split(";")]
        assert "sandbox allow-scripts" in policy  # never allow-same-origin: it would read the page
        assert {"default-src 'none'", "frame-ancestors 'self'", "form-action 'none'", "base-uri 'none'"} <= {*policy}
        assert not any("http" in part or "*" in part or "self" in part for part in policy if "ancestors" not in part)
        assert one.client.get("/trimtab/report/other").status_code == 404


def test_a_body_is_counted_as_it_comes() -> None:
    with served(entry(talking()), limits=Limits(body=1000)) as one:
        small = json.dumps({"prompt": "w5", "max_tokens": 1}).encode()
        assert one.client.post("/v1/completions", content=small.ljust(1000),
                               headers={"Content-Type": "application/json"}).status_code == 200  # fmt: skip
        told = one.client.post(
            "/v1/completions", content=small.ljust(1001), headers={"Content-Type": "application/json"}
        )
        assert (told.status_code, told.json()["error"]["code"]) == (413, "body_too_large")

        def endless() -> Iterator[bytes]:
            for _ in range(1000):
                yield b" " * 100

        streamed = one.client.post("/v1/completions", content=endless(), headers={"Content-Type": "application/json"})
        assert streamed.status_code == 413
        for length in ("-5", "9" * 30, "1e3"):
            assert b" 4" in _raw(one, f"Content-Length: {length}\r\n")
        assert one.client.get("/healthz").status_code == 200


def _raw(one: Served, header: str) -> bytes:
    with socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2]))) as plain:
        plain.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{header}"
                      "\r\n{}".encode())  # fmt: skip
        plain.settimeout(20)
        return plain.recv(100)


CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
BAD = {
    "nothing": (CHAT, b""), "no JSON": (CHAT, b"{"), "no UTF-8": (CHAT, b'{"messages": "\xff\xfe"}'),
    "no object": (CHAT, b"[1]"), "null": (COMPLETIONS, b"null"), "deep": (CHAT, b"[" * 100_000),
    "deep and whole": (CHAT, b'{"messages":' + b"[" * 500 + b"]" * 500 + b"}"),
    "deep in what is ignored": (COMPLETIONS, b'{"prompt":"w5","user":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "half a surrogate": (COMPLETIONS, b'{"prompt": "\\ud800"}'),
    "NaN": (COMPLETIONS, b'{"prompt": "w5", "temperature": NaN}'),
    "infinite": (COMPLETIONS, b'{"prompt": "w5", "temperature": 1e999}'),
    "huge": (COMPLETIONS, b'{"prompt": "w5", "max_tokens": ' + b"9" * 5000 + b"}"),
    "huge seed": (COMPLETIONS, b'{"prompt": "w5", "seed": 9223372036854775808}'),
    "negative": (COMPLETIONS, b'{"prompt": "w5", "max_tokens": -1}'),
    "a half word": (COMPLETIONS, b'{"prompt": "w5", "max_tokens": 1.5}'),
    "text for a number": (COMPLETIONS, b'{"prompt": "w5", "temperature": "1"}'),
    "true for a number": (COMPLETIONS, b'{"prompt": "w5", "n": true}'),
    "no prompt": (COMPLETIONS, b"{}"), "empty prompts": (COMPLETIONS, b'{"prompt": []}'),
    "an empty prompt of ids": (COMPLETIONS, b'{"prompt": [[]]}'), "mixed": (COMPLETIONS, b'{"prompt": ["w5", 5]}'),
    "no such token": (COMPLETIONS, b'{"prompt": [96]}'), "a negative token": (COMPLETIONS, b'{"prompt": [-1]}'),
    "a huge token": (COMPLETIONS, b'{"prompt": [99999999999999999999]}'),
    "too many": (COMPLETIONS, b'{"prompt": "w5", "n": 129}'),
    "too many together": (COMPLETIONS, json.dumps({"prompt": ["w5"] * 10, "n": 10}).encode()),
    "too long": (COMPLETIONS, json.dumps({"prompt": "w5 " * 500}).encode()),
    "an empty stop": (COMPLETIONS, b'{"prompt": "w5", "stop": ""}'),
    "stops": (COMPLETIONS, json.dumps({"prompt": "w5", "stop": ["x"] * 17}).encode()),
    "biases": (COMPLETIONS, b'{"prompt": "w5", "logit_bias": {"x": 1}}'),
    "a suffix": (COMPLETIONS, b'{"prompt": "w5", "suffix": "w6"}'),
    "nobody knows it": (COMPLETIONS, b'{"prompt": "w5", "temprature": 1}'),
    "options without a stream": (COMPLETIONS, b'{"prompt": "w5", "stream_options": {}}'),
    "no messages": (CHAT, b'{"messages": []}'), "a tool": (CHAT, b'{"messages": [], "tools": [{}]}'),
    "no role": (CHAT, b'{"messages": [{"content": "w5"}]}'),
    "another role": (CHAT, b'{"messages": [{"role": "tool", "content": "w5"}]}'),
    "a video": (CHAT, b'{"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}'),
    "JSON wanted": (CHAT, b'{"messages": [{"role": "user", "content": "w5"}], '
                    b'"response_format": {"type": "json_object"}}'),
    "tops alone": (CHAT, b'{"messages": [{"role": "user", "content": "w5"}], "top_logprobs": 2}'),
    "no word": (CHAT, b'{"messages": [{"role": "user", "content": "w5"}], "max_tokens": 0}'),
    "embeddings": (EMBEDDINGS, b'{"input": "w5"}'),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_the_clients(tiny_server: Served, name: str) -> None:
    path, body = BAD[name]
    answer = tiny_server.client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    told = answer.json()["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert told["type"] == "invalid_request_error"
    assert len(told["message"]) < 400


@pytest.mark.parametrize(
    "text", ["w5\u0000w6", "\u202e\u200b\ufeff", "e\u0301" * 50, "😀" * 30, "<s> </s> <pad>", " ", ""]
)
def test_odd_texts_are_read_like_any_other(tiny_server: Served, text: str) -> None:
    for path, body in ((COMPLETIONS, {"prompt": text}), (CHAT, {"messages": [{"role": "user", "content": text}]})):
        answer = tiny_server.client.post(path, json={**body, "max_tokens": 2, "user": None, "n": None})
        assert answer.status_code == 200, answer.text


def test_other_methods_and_paths(tiny_server: Served) -> None:
    for method, path, status in (("GET", CHAT, 405), ("POST", "/v1/models", 405), ("GET", "/v1/none", 404),
                                 ("POST", "/v2/chat/completions", 404)):  # fmt: skip
        answer = tiny_server.client.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_logs_and_errors_hold_nothing_of_what_was_asked(tiny_server: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for body in ({"prompt": "private w5"}, {"prompt": ["private", 5]}, {"prompt": "w5", "model": "x"},
                     {"prompt": "private", "private": 1}):  # fmt: skip
            tiny_server.client.post("/v1/completions?q=private", json=body)
    ours = [one.getMessage() for one in caplog.records if one.name.startswith(("trimtab", "uvicorn"))]
    assert len(ours) >= 4
    assert not [line for line in ours if "private" in line]


def test_meters_count(tiny_server: Served) -> None:
    before = _meter(tiny_server, 'trimtab_tokens_total{kind="said",model="tiny"}')
    tiny_server.post("/v1/completions", prompt="w5", max_tokens=7)
    assert _meter(tiny_server, 'trimtab_tokens_total{kind="said",model="tiny"}') == before + 7
    assert _meter(tiny_server, 'trimtab_seconds_to_first_token_count{model="tiny"}') > 0
    assert _meter(tiny_server, 'trimtab_requests_total{endpoint="completions",outcome="answered"}') > 0
    assert _meter(tiny_server, "trimtab_resident_bytes") > 1e7
    status = tiny_server.client.get("/trimtab/status").json()
    assert status["memory"]["resident"] > 1e7
    assert status["limits"] == {
        "images": 8,
        "image_pixels": 16_000_000,
        "body": 32 << 20,
        "tokens": 4096,
        "seconds": 300,
    }
    assert status["requests"]["answered"] > 0
    assert status["queue"] == {"waiting": 0, "running": 0, "room": 64}


def _meter(one: Served, name: str) -> float:
    rows = [line.rpartition(" ") for line in one.client.get("/metrics").text.splitlines()]
    return sum(float(value) for key, _, value in rows if key == name)
