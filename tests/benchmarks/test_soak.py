"""What ``make soak`` sends, how it reads answers, and what it makes of them."""

from __future__ import annotations

import asyncio
import io
import json
import random
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, UnidentifiedImageError

from jobs import SIDES
from soakbodies import asked, bombs, broken, picture
from soakclients import Deed, Seen, deeds, drive
from soakpage import Verdict, flat, load_verdicts, page, schema_verdicts, windows
from soakwire import Answer, exchange, request

LIMITS = {"images": 4, "body": 2**20}
STREAM = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    b'4\r\n: hi\r\n',
    b'23\r\ndata: {"delta": {"content": ""}}\n\n\r\n',
    b'24\r\ndata: {"delta": {"content": "a"}}\n\n\r\n',
    b"e\r\ndata: [DONE]\n\n\r\n", b"0\r\n\r\n",
]  # fmt: skip


async def speaking(pieces: list[bytes], ask: Callable[[int], Awaitable[Answer]], wait: float = 0.0) -> Answer:
    """What ``ask`` reads from a server that says ``pieces``."""

    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(wait)
        writer.close()
        done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        found = await ask(server.sockets[0].getsockname()[1])
        await done.wait()
        return found


def read(pieces: list[bytes], wait: float = 0.0, **how: Any) -> Answer:
    return asyncio.run(speaking(pieces, lambda port: exchange(port, [request("/", b"{}", "t")], **how), wait))


def test_a_whole_stream_has_ended_and_its_first_word_is_not_the_empty_one() -> None:
    found = read(STREAM, wait=0.05)
    assert (found.status, found.ended, found.error) == (200, True, False)
    assert found.first is not None
    assert found.first > 0.1


def test_a_stream_that_breaks_off_has_not_ended() -> None:
    assert not read(STREAM[:-2]).ended
    assert not read([*STREAM[:-2], STREAM[-1]]).ended  # its connection was closed well, and nobody said DONE
    assert not read([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"]).ended
    assert read([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"]).ended
    assert read([]) == Answer()


def test_an_error_in_a_stream_is_seen() -> None:
    found = read([*STREAM[:4], b'1b\r\ndata: {"error": {"code": 1}}\n\n\r\n', *STREAM[-2:]])
    assert (found.error, found.ended) == (True, True)


def test_who_leaves_reads_no_further_and_a_slow_reader_reads_it_all() -> None:
    assert read(STREAM, leave=0).status == 0
    assert not read(STREAM, leave=5).ended
    assert read(STREAM, sip=0.01).ended


def test_a_request_says_what_it_holds_unless_it_lies() -> None:
    head, _, body = request("/x", b"{}", "t").partition(b"\r\n\r\n")
    assert (body, b"Content-Length: 2" in head, b"Bearer t" in head) == (b"{}", True, True)
    assert b"Content-Length: 99" in request("/x", b"{}", None, length=99)
    assert request("/x", b"{}", None, chunked=True).endswith(b"chunked\r\n\r\n")
    assert request("/x", None, None).startswith(b"GET")


def test_bombs_are_small_and_unfold_to_much() -> None:
    made = bombs()
    assert max(map(len, made.values())) < 2**20
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(made["png bomb"]))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(made["gif bomb"])).load()
    assert Image.open(io.BytesIO(made["gif of frames"])).n_frames == 5_000
    with pytest.raises((ValueError, UnidentifiedImageError, OSError)):
        Image.open(io.BytesIO(made["png of words"])).load()
    with pytest.raises((Image.DecompressionBombError, UnidentifiedImageError, OSError)):
        Image.open(io.BytesIO(made["webp bomb"])).load()


def test_good_pictures_are_good_and_cut_ones_are_not() -> None:
    draw = random.Random(0)
    assert Image.open(io.BytesIO(picture("PNG", draw))).size == (128, 128)
    body = json.loads(asked("m", draw, picture("PNG", draw), max_tokens=3))
    assert (body["model"], body["max_tokens"], len(body["messages"][0]["content"])) == ("m", 3, 2)
    for name, made in broken("m", 2).items():
        for _ in range(5):
            assert isinstance(made(draw), bytes), name


def test_counts_tell_who_left_from_who_was_lost() -> None:
    async def nothing(draw: random.Random) -> Answer:
        return Answer()

    leaves, asks = Deed("leaves", nothing, frozenset({0})), Deed("chat", nothing, frozenset({200}), timed=True)
    seen = Seen()
    seen.add(leaves, Answer())
    seen.add(asks, Answer(200, 0.5, True))
    assert (seen.lost, seen.wrong, seen.whole, seen.first) == ([], [], 1, [0.5])
    seen.add(asks, Answer(429, 0.1, True))
    assert (seen.lost, seen.wrong, seen.whole, seen.first) == ([], [], 1, [0.5])
    seen.add(asks, Answer(200, 0.1, False))
    seen.add(asks, Answer(500, 0.1, True))
    seen.add(asks, Answer(200, 0.1, True, error=True))
    assert (len(seen.lost), len(seen.wrong)) == (1, 2)
    assert seen.counts == {"leaves": {"left": 1}, "chat": {"200": 3, "429": 1, "500": 1}}


def test_every_deed_is_done_by_somebody() -> None:
    done = []

    def doing(name: str) -> Deed:
        async def does(draw: random.Random) -> Answer:
            done.append(name)
            await asyncio.sleep(0.01)
            return Answer(200, 0.0, True)

        return Deed(name, does, frozenset({200}))

    names = [one.name for one in deeds(1, "m", LIMITS, "t")]
    assert len(set(names)) == len(names) > 25
    asyncio.run(drive([doing(name) for name in names], len(names), 0.001))
    assert set(done) == set(names)


def test_memory_is_flat_by_medians_after_the_warm_up() -> None:
    rows = [(float(at), 200 if at < 20 else 100 + (at % 10 == 0) * 50) for at in range(60)]
    assert windows(rows, 20) == [100] * 4
    assert flat("x", rows, 20).held is True
    assert flat("x", [(at, size + at) for at, size in rows], 20).held is False
    assert flat("x", rows[:25], 20).held is None


def test_a_page_has_every_verdict_and_count() -> None:
    seen = {
        "counts": {"chat": {"200": 3, "500": 1}},
        "wrong": ["chat: 500"],
        "lost": [],
        "first": [0.1, 0.2],
        "whole": 3,
    }
    requests = {"answered": 3, "cancelled": 0, "failed": 0, "refused": 0}
    load: dict[str, Any] = {
        "after": {"requests": requests, "queue": {"waiting": 0, "running": 0}}, "seen": seen, "sent": 4, "clients": 2,
        "seconds": 30.0, "warm": 10.0, "memory": [(float(at), 2**20) for at in range(30)], "alive": True, "status": 0,
        "alone": [0.05],
    }  # fmt: skip
    verdicts = load_verdicts(load)
    assert [one.held for one in verdicts] == [True, True, True, False, False, True]
    load["after"]["requests"]["failed"] = 1
    assert load_verdicts(load)[2].held is False
    drawn = {"counts": {"GET /x 404": 2}, "sent": 2, "seconds": 30.0, "failed": [], "lost": [],
             "alive": True, "operations": ["/x"], "wanted": 2, "memory": load["memory"], "warm": 10.0}  # fmt: skip
    assert [one.held for one in schema_verdicts(drawn)] == [True, True]
    growing = [(at, size * (1 + at / 50)) for at, size in load["memory"]]
    assert [one.held for one in schema_verdicts(drawn | {"memory": growing, "sent": 1})] == [False, False]
    text = page([*verdicts, Verdict("more", None, "")], load, drawn, 2_000_000)
    assert "| no 5xx | **NOT HELD** | 1 of 4 |" in text
    assert "| chat | 200: 3, 500: 1 |" in text
    assert "| GET /x | 404: 2 |" in text
    assert "| more | not tried |  |" in text


@pytest.mark.slow
def test_a_short_soak_holds(tmp_path: Path) -> None:
    """The server as it is, for seconds; without the requests of schemathesis, which is not installed here."""
    command = [sys.executable, str(SIDES.parent / "soak.py"), "--seconds", "5", "--clients", "20", "--kills", "1",
               "--parts", "load", "kill", "--out", str(tmp_path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said["promises"]) == 7
