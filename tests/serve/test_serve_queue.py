"""The queue: full, late, left, stopping; one that fails; and the process, which ends by SIGTERM with what it began."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from PIL import Image
from serving import Gate, Served, data_url, entry, served, shown, talking, until

from trimtab.load.loaded import Loaded
from trimtab.serve.limits import Limits
from trimtab.serve.schedule import Job
from trimtab.serve.talk import Speaker

ASK = {"prompt": "w5 w9", "max_tokens": 8, "temperature": 0}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def ask(one: Served, **more: Any) -> httpx2.Response:
    with httpx2.Client(base_url=one.url, timeout=60) as client:
        return client.post("/v1/completions", json=ASK | more)


def total(one: Served) -> int:
    return one.house.desk.inside + one.house.desk.waiting


def test_a_full_queue_says_when_to_come_again(pool: ThreadPoolExecutor) -> None:
    with served(entry(talking()), limits=Limits(waiting=2, rows=1)) as one:
        gate = Gate(one, "tiny")
        room = 3 + 2  # made ready or running, and waiting
        asked = []
        for number in range(room):
            asked.append(pool.submit(ask, one))
            until(lambda number=number: total(one) == number + 1)
        told = one.client.get("/trimtab/status").json()["queue"]
        assert told == {"waiting": 2, "running": 3, "room": 0}
        refused = ask(one)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"
        gate.open()
        assert {one.result().status_code for one in asked} == {200}
        assert ask(one).status_code == 200
        assert one.house.meters.counts == {"answered": room + 1, "refused": 1, "cancelled": 0, "failed": 0}


def test_who_is_late_is_told_and_takes_no_more_room(pool: ThreadPoolExecutor) -> None:
    with served(entry(talking())) as one:
        gate = Gate(one, "tiny")
        patient, hasty = pool.submit(ask, one), pool.submit(ask, one, max_seconds=0.05)
        late = hasty.result()  # while a prompt is being read
        assert (late.status_code, late.json()["error"]["code"]) == (400, "deadline_exceeded")
        assert late.json()["error"]["param"] == "max_seconds"
        gate.open()
        assert patient.result().status_code == 200
        until(lambda: one.house.scheduler.running == 0)


def test_who_waits_too_long_for_a_place_is_told(pool: ThreadPoolExecutor) -> None:
    with served(entry(talking()), limits=Limits(rows=1)) as one:
        gate = Gate(one, "tiny")
        first = [pool.submit(ask, one) for _ in range(3)]
        until(lambda: one.house.desk.inside == 3)
        late = ask(one, max_seconds=0.05)
        assert (late.status_code, late.json()["error"]["code"]) == (400, "deadline_exceeded")
        gate.open()
        assert {one.result().status_code for one in first} == {200}


def test_who_is_late_while_prompts_are_made_is_told(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    go, heard = threading.Event(), Speaker.heard

    def slow(*given: Any) -> Any:
        assert go.wait(60)
        return heard(*given)

    monkeypatch.setattr(Speaker, "heard", slow)
    with served(entry(talking())) as one:
        first, late = pool.submit(ask, one), ask(one, max_seconds=0.05)
        assert (late.status_code, late.json()["error"]["code"]) == (400, "deadline_exceeded")
        go.set()
        assert first.result().status_code == 200


def test_who_waits_for_a_remote_picture_keeps_no_other_waiting(pool: ThreadPoolExecutor, builtin: Loaded) -> None:
    go, asked_for, kept = threading.Event(), list[str](), io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(kept, "PNG")

    def fetch(url: str) -> bytes:
        asked_for.append(url)
        assert go.wait(60)
        return kept.getvalue()

    with served(entry(builtin), fetch=fetch, limits=Limits(body=400_000)) as one:
        path, more = "/v1/chat/completions", {"max_tokens": 2, "temperature": 0}
        far = pool.submit(one.post, path, messages=shown("http://far.example/red.png"), **more)
        until(lambda: asked_for == ["http://far.example/red.png"])
        near = one.post(path, messages=shown(data_url(Image.new("RGB", (64, 64), "red"))), **more)
        late = one.client.post(path, json={"messages": shown("http://far.example/2"), "max_seconds": 0.05})
        assert late.json()["error"]["code"] == "deadline_exceeded"
        go.set()
        assert far.result()["choices"] == near["choices"]
        kept.write(b" " * 400_000)  # behind the picture's end
        large = one.client.post(path, json={"messages": shown("http://far.example/3")})
        assert (large.status_code, large.json()["error"]["param"]) == (400, "image_url")


def test_past_the_servers_own_limit_it_is_the_server_that_gives_up(pool: ThreadPoolExecutor) -> None:
    with served(entry(talking()), limits=Limits(rows=1, seconds=0.05)) as one:
        gate = Gate(one, "tiny")
        answer = ask(one, max_seconds=60)
        gate.open()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "deadline_exceeded")
        assert int(answer.headers["retry-after"]) >= 1


def test_what_all_requests_hold_together_is_bounded(pool: ThreadPoolExecutor) -> None:
    body, headers = json.dumps(ASK).encode().ljust(1000), {"Content-Type": "application/json"}

    def send(one: Served) -> httpx2.Response:
        return httpx2.post(f"{one.url}/v1/completions", content=body, headers=headers, timeout=60)

    with served(entry(talking()), limits=Limits(body=1000)) as one:
        gate = Gate(one, "tiny")
        begun = [pool.submit(send, one) for _ in range(8)]
        until(lambda: total(one) == 8)
        refused = send(one)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert refused.headers["retry-after"] == "1"
        gate.open()
        assert {one.result().status_code for one in begun} == {200}
        assert {send(one).status_code for _ in range(9)} == {200}, "what was held was let go"


def test_a_client_that_leaves_a_stream_frees_its_row() -> None:
    with served(entry(talking())) as one:
        body = ASK | {"stream": True, "max_tokens": 100}
        gate = Gate(one, "tiny")
        gate.reading.set()
        with one.client.stream("POST", "/v1/completions", json=body) as answer:
            assert next(answer.iter_lines()).startswith("data:")
        until(lambda: one.house.meters.counts["cancelled"] == 1)
        gate.open()
        until(lambda: one.house.scheduler.running == 0 and one.house.desk.idle)
        assert len(gate.sizes) <= 1, "a step that was taken already"


def test_a_client_that_leaves_before_any_answer_frees_its_place(pool: ThreadPoolExecutor) -> None:
    with served(entry(talking())) as one:
        gate = Gate(one, "tiny")
        body = json.dumps(ASK | {"max_tokens": 100}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" \
               f"Content-Length: {len(body)}\r\n\r\n"  # fmt: skip
        with socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2]))) as plain:
            plain.sendall(head.encode() + body)
            until(lambda: one.house.desk.inside == 1)
        until(lambda: one.house.desk.inside == 0)
        assert one.house.meters.counts["cancelled"] == 1
        gate.open()
        assert ask(one).status_code == 200
        assert gate.sizes == [1] * 7, "of the one that left no word was said behind the first"


def test_a_client_that_leaves_within_its_body_is_cancelled_and_no_failure() -> None:
    with served(entry(talking())) as one:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2]))) as plain:
            plain.sendall(head + b'Content-Length: 999\r\n\r\n{"prompt"')
            time.sleep(0.1)  # the head is read, most likely; either way nothing may fail
        assert ask(one).status_code == 200
        until(lambda: sum(one.house.meters.counts.values()) == 2)
        assert one.house.meters.counts == {"answered": 1, "refused": 0, "cancelled": 1, "failed": 0}


def test_what_fails_is_told_to_the_one_who_asked_and_the_next_is_answered(pool: ThreadPoolExecutor) -> None:
    with served(entry(talking())) as one:
        lane = one.house.scheduler.lanes["tiny"]
        step, failed = lane.rows.step, [RuntimeError("a secret prompt")]

        def broken(ids: Any) -> Any:
            if failed:
                raise failed.pop()
            return step(ids)

        lane.rows.step = broken  # type: ignore[method-assign]
        answer = ask(one)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert ask(one).status_code == 200
        failed.append(RuntimeError("again"))
        events = ask(one, stream=True).text.strip().split("\n\n")
        assert json.loads(events[-1].removeprefix("data: "))["error"]["type"] == "server_error"
        failed.append(MemoryError())  # type: ignore[arg-type]
        assert ask(one).status_code == 503
        assert one.house.meters.counts["failed"] == 2


def test_no_error_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a row, in taking rows out, in reading a prompt: told to whom it concerns."""
    with served(entry(talking())) as one:
        rows = one.house.scheduler.lanes["tiny"].rows
        with monkeypatch.context() as patch:
            patch.setattr(rows, "step", lambda ids: torch.full((len(ids), 96), torch.nan))
            assert ask(one, temperature=1, seed=1).status_code == 500
        with monkeypatch.context() as patch:
            fails, keep = [RuntimeError("in the cache")], rows.keep

            def broken(which: Any) -> None:
                if fails:
                    raise fails.pop()
                keep(which)

            patch.setattr(rows, "keep", broken)
            assert ask(one).status_code == 200
            until(lambda: one.house.scheduler.running == 0)
        with monkeypatch.context() as patch:
            patch.setattr(rows, "begin", lambda batch: torch.empty(1 << 50))
            assert ask(one).status_code == 503, "memory, as torch says it"
        assert one.client.get("/healthz").status_code == 200
        assert ask(one).status_code == 200
        one.house.scheduler.__exit__()
        assert (one.client.get("/healthz").status_code, one.client.get("/healthz").json()) == (
            503,
            {"status": "failed"},
        )


def test_one_row_that_fails_keeps_no_other_from_its_answer(pool: ThreadPoolExecutor) -> None:
    with served(entry(talking())) as one:
        gate = Gate(one, "tiny")
        step = gate.rows.step

        def broken(ids: Any) -> Any:
            found = step(ids)
            return torch.cat([torch.full((1, 96), torch.nan), found[1:]]) if len(ids) == 2 else found

        gate.rows.step = broken  # type: ignore[method-assign]
        gate.reading.set()
        failing = pool.submit(ask, one, temperature=1, seed=1)
        until(lambda: one.house.scheduler.running == 1)
        other = pool.submit(ask, one)
        until(lambda: one.house.desk.inside == 2)
        time.sleep(0.1)  # it is with the scheduler, most likely, before the first has said all its words
        gate.stepping.set()
        assert failing.result().status_code == 500
        assert other.result().json()["choices"] == ask(one).json()["choices"]


def test_what_was_begun_is_finished_and_what_is_new_refused(pool: ThreadPoolExecutor) -> None:
    with served(entry(talking())) as one:
        gate = Gate(one, "tiny")
        begun: Future[httpx2.Response] = pool.submit(ask, one)
        until(lambda: one.house.desk.inside == 1)
        assert one.client.get("/healthz").status_code == 200
        one.house.desk.draining = True
        refused = ask(one)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        assert "retry-after" in refused.headers
        assert one.client.get("/healthz").json() == {"status": "stopping"}
        assert not one.house.desk.idle
        gate.open()
        assert begun.result().status_code == 200
        until(lambda: one.house.desk.idle)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_process_ends_by_sigterm_with_what_it_began(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trimtab.cli", "serve", "b=builtin:easyvqa-llava", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = json.loads(process.stdout.readline())
        assert told["models"] == ["b"]
        body = {"prompt": "what is this private text", "max_tokens": 600, "stream": True, "logit_bias": {"2": -100}}
        with (
            httpx2.Client(base_url=told["url"], timeout=60) as client,
            client.stream("POST", "/v1/completions", json=body) as answer,
        ):
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        errors = process.stderr.read()
        assert process.wait(60) == 0, errors
    assert "completions 200" in errors
    assert "private" not in errors
    assert "Traceback" not in errors


def test_what_a_request_held_is_freed_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the collector: it comes seldom, and pictures are large."""
    held = weakref.WeakSet[Job]()
    with served(entry(talking())) as one:
        submit = one.house.scheduler.submit
        monkeypatch.setattr(one.house.scheduler, "submit", lambda job: (held.add(job), submit(job)))
        gc.collect()
        gc.disable()
        try:
            assert ask(one).status_code == 200
            assert ask(one, stream=True).status_code == 200
            gate = Gate(one, "tiny")
            assert ask(one, max_seconds=0.05).status_code == 400
            gate.open()
            until(lambda: not held)
        finally:
            gc.enable()
