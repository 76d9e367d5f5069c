"""Bodies that ``make soak`` sends: questions as they should be, and everything else that a server is sent."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

WORDS = ("What is in the picture?", "What colour is it?", "Is there a circle?", "Name the shape.")
SIDE = 128
BOMB = 30_000
"""Pixels along a side of pictures that would take a gigabyte and more."""


def picture(kind: str, draw: random.Random) -> bytes:
    """Four squares of colour."""
    image = Image.new("RGB", (2, 2))
    image.putdata([tuple(draw.randrange(256) for _ in range(3)) for _ in range(4)])
    kept = io.BytesIO()
    image.resize((SIDE, SIDE), Image.Resampling.NEAREST).save(kept, kind)
    return kept.getvalue()


def asked(model: str, draw: random.Random, seen: bytes | None = None, *, kind: str = "png", **more: Any) -> bytes:
    """A chat request, with a picture where one is given."""
    url = None if seen is None else f"data:image/{kind};base64,{base64.b64encode(seen).decode()}"
    return chat(model, draw.choice(WORDS), url, **more)


def chat(model: str, words: str, url: str | None = None, **more: Any) -> bytes:
    """A chat request; ``url``: of a picture, as it stands."""
    parts: list[dict[str, Any]] = [] if url is None else [{"type": "image_url", "image_url": {"url": url}}]
    content = [*parts, {"type": "text", "text": words}]
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 16, "temperature": 0}
    return json.dumps(body | more).encode()


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bomb(side: int = BOMB) -> bytes:
    """A white square of one bit to a pixel: whole and true, and a thousand times smaller than what it unfolds to."""
    press = zlib.compressobj(9)
    row = b"\0" + b"\xff" * ((side + 7) // 8)
    data = b"".join(press.compress(row * 100) for _ in range(side // 100)) + press.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_of_words(size: int = 200_000_000) -> bytes:
    """A picture of one pixel whose comment unfolds to ``size`` bytes."""
    press = zlib.compressobj(9)
    block = b"a" * 1_000_000
    words = b"".join(press.compress(block) for _ in range(size // len(block))) + press.flush()
    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"zTXt", b"Comment\0\0" + words)
            + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b""))  # fmt: skip


def gif_bomb() -> bytes:
    """A screen of 65,535 by 65,535 around a frame of one pixel."""
    kept = io.BytesIO()
    Image.new("P", (1, 1)).save(kept, "GIF")
    made = bytearray(kept.getvalue())
    made[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(made)


def gif_of_frames(count: int = 5_000) -> bytes:
    """A thousand and more frames."""
    frame = b"\x21\xf9\x04\0\0\0\0\0" + b"\x2c\0\0\0\0\1\0\1\0\0" + b"\x02\x02D\x01\0"
    return b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0\0\0\0\xff\xff\xff" + frame * count + b";"


def webp_bomb() -> bytes:
    """A lossless picture whose head says 16,384 by 16,384, and whose data end there."""
    bits = 16_383 | 16_383 << 14
    data = b"\x2f" + struct.pack("<I", bits) + b"\0" * 5
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bombs() -> dict[str, bytes]:
    """By name, each made once: the largest takes a second."""
    return {"png bomb": png_bomb(), "png of words": png_of_words(), "gif bomb": gif_bomb(),
            "gif of frames": gif_of_frames(), "webp bomb": webp_bomb()}  # fmt: skip


def broken(model: str, most: int) -> dict[str, Callable[[random.Random], bytes]]:
    """By what is wrong with them: bodies that must be refused. ``most``: pictures in a request."""
    return {
        "malformed JSON": lambda draw: asked(model, draw)[: draw.randrange(5, 60)],
        "no object": lambda draw: draw.choice([b"[]", b"null", b'"a"', b"1e999", b"", b"[" * 20_000]),
        "wrong types": lambda draw: json.dumps({"model": draw.choice([1, None, [], {}]), "messages": "hello"}).encode(),
        "invalid UTF-8": lambda draw: asked(model, draw).replace(b'"text": "', b'"text": "\xff\xfe\x80'),
        "bad base64": lambda draw: chat(model, "?", "data:image/png;base64,@@" + "%" * draw.randrange(1, 400)),
        "no picture": lambda draw: chat(model, "?", "data:text/html;base64,PGI+aGk8L2I+"),
        "not ours to fetch": lambda draw: chat(model, "?", draw.choice(
            ["http://127.0.0.1:9/x.png", "file:///etc/passwd", "http://localhost/x.png", "ftp://x", "//x/y.png"])),
        "truncated PNG": lambda draw: _cut(model, draw, "png"),
        "truncated JPEG": lambda draw: _cut(model, draw, "jpeg"),
        "too many pictures": lambda draw: _many(model, draw, most + 1),
        "unknown model": lambda draw: asked("nobody", draw),
        "knobs out of range": lambda draw: asked(model, draw, **draw.choice(
            [{"max_tokens": -1}, {"temperature": -3}, {"top_p": 9}, {"n": 100_000}, {"temperature": "hot"}])),
    }  # fmt: skip


def _cut(model: str, draw: random.Random, kind: str) -> bytes:
    whole = picture(kind.upper(), draw)
    return asked(model, draw, whole[: draw.randrange(10, len(whole) // 2)], kind=kind)


def _many(model: str, draw: random.Random, count: int) -> bytes:
    url = f"data:image/png;base64,{base64.b64encode(picture('PNG', draw)).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}] * count
    return json.dumps({"model": model, "messages": [{"role": "user", "content": parts}], "max_tokens": 4}).encode()
